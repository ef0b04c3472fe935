"""Evaluation: episodes of a frozen policy at every level, and scores of the returns.

``jaxgen.evaluation.scores`` is numpy alone and is imported by what only reads results;
nothing is imported here, so that reading results never starts an accelerator.
"""
