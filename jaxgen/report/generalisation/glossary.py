"""Explanations of the columns of a report's tables, in a sentence each."""

TIPS = {
    "algorithm": "An algorithm, a preset of it, or one with hyper-parameters of its own behind @.",
    "technique": "What the training does beyond the algorithm, such as dr or gar.",
    "n": "Number of training seeds.",
    "learned": "Runs with s(0) of at least .1 and a return clearly above random play's.",
    "diverged": "Runs whose training met NaN. They count as failures.",
    "env steps": "Environment steps of a training, mean over seeds.",
    "A": "Score over all levels of shift: 0 is random play, 1 the ceiling.",
    "A_ood": "Mean score at levels .75 and 1, which these arms do not train on.",
    "grs_n": "Share of the score at level 0 that remains over all levels, of runs that learned.",
    "J(0)": "Mean return at level 0, the training environment.",
    "n pairs": "Seeds that both arms have.",
    "mean": "Mean difference with its 95 % interval over seeds.",
    "p": "Sign-flip test of no difference, corrected over the table.",
    "p, equivalence": "Small where any difference is within the margin.",
    "detectable": "Smallest difference that would be found in 8 of 10 such studies.",
    "pairing r": "Correlation of the two arms over seeds.",
    "verdict": "What the tests allow to say.",
}
"""By the header of a column."""
