"""Fixed evaluation episodes, wherever their environment lives: a record of functions.

`make_suite` is the one place that asks where that is.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.evaluation import episodes as on_device
from jaxgen.evaluation import host_episodes as on_host
from jaxgen.evaluation.episodes import FixedEpisodes, Played
from jaxgen.evaluation.policy import Acting, acting
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, EnvSpec, EpisodeKinds, HostTask, Policy, PyTree, Task, is_host

Image = np.ndarray
"""uint8 ``[H, W, 3]``."""
Keep = Callable[[Image], Any]
"""What is kept of an image; a film of a thousand steps would take much memory as it is."""


class Shots(NamedTuple):
    """The choice of what is filmed."""

    keep: Keep
    episodes: frozenset[int] | None = None
    """Numbers of the episodes; None: all."""
    every: int = 1
    """Steps from one image to the next; an episode's last one is kept as well."""

    def takes(self, episode: int) -> bool:
        """Whether an episode is filmed."""
        return self.episodes is None or episode in self.episodes


class Film(NamedTuple):
    """An episode as it was played."""

    frames: list[Any]
    """What was kept of its images. A procgen game shows no end of an episode, so that the last one
    is of before the last step."""
    length: int
    """Steps."""
    total: float
    """Undiscounted return."""


class Known(NamedTuple):
    """Facts about the episodes that no policy changes."""

    ceiling: np.ndarray
    """The best return that each of them allows, float64 ``[K, E]``."""
    prints: Array | None
    """Fingerprints of the instances, uint32 ``[K, E]``; None: nothing is generated."""
    kinds: EpisodeKinds | None
    """Kinds of the episodes, where a level mixes some."""


class Suite(NamedTuple):
    """The fixed episodes of K levels, and what can be done with them."""

    episodes: Any
    """Laid out, as `jaxgen.training.program.Program.evaluate` takes them."""
    play: Callable[[Policy, PyTree, bool, int], Played]
    """(policy, parameters ``[D]``, sampled or greedy, images that it sees at once) -> outcomes
    ``[K, E]``, in numpy."""
    play_by: Callable[[Callable], Played]
    """(function of observations in numpy ``[N, *obs_shape]`` that gives actions as the environment
    takes them) -> outcomes ``[K, E]``, in numpy."""
    random: Callable[[], np.ndarray]
    """Returns of the uniform random policy, float32 ``[K, E]``: the floor of the scores."""
    known: Callable[[], Known]
    """What does not depend on the policy; ceilings may take a while."""
    level_seeds: np.ndarray | None
    """Which instance each episode plays, int32 ``[K, E]``; None: instances have no numbers."""
    first_images: Callable[[], list[list[Image]]]
    """What each episode begins with, a list for each level."""
    films: Callable[[Acting, int, Shots], Iterator[Film]]
    """(what plays, images that it sees at once, what is filmed) -> those episodes of the first
    level, in order."""


def make_suite(
    task: Task | HostTask, key: Array, levels: tuple[float, ...], num_episodes: int
) -> Suite:
    """Lay out the evaluation episodes of each level from ``key``."""
    if is_host(task):
        return host_suite(task, key, levels, num_episodes)
    return device_suite(task, key, levels, num_episodes)


def device_suite(task: Task, key: Array, levels: tuple[float, ...], num_episodes: int) -> Suite:
    """Lay out episodes of a pure JAX environment."""
    episodes = on_device.make_episodes(task, key, levels, num_episodes)

    def play(policy: Policy, params: PyTree, sampled: bool, num_frames: int) -> Played:
        del num_frames  # Images are stacked for environments on the host only.
        played = _play(task, policy, sampled, jnp.asarray(params), episodes)
        return jax.tree.map(np.asarray, played)

    def known() -> Known:
        best = np.asarray(task.ceiling(episodes.params, episodes.words), np.float64)
        if best.shape != episodes.keys.shape:
            raise BadInput(
                f"{task.spec.name}: ceiling is of shape {list(best.shape)}; make it [K, E], here "
                f"{list(episodes.keys.shape)}"
            )
        return Known(best, task.fingerprints(episodes.params), None)

    return Suite(
        episodes,
        play,
        play_by=lambda choose: on_device.play_by(task, episodes, choose),
        random=lambda: np.asarray(on_device.random_returns(task, episodes)),
        known=known,
        level_seeds=None,
        first_images=lambda: _first_images(task, episodes),
        films=partial(_films, task, episodes),
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _play(
    task: Task, policy: Policy, sampled: bool, params: Array, episodes: FixedEpisodes
) -> Played:
    chosen_by = acting(policy, params, sampled)
    return on_device.play(task.environment, episodes, chosen_by, task.spec.max_episode_steps)


def _at(tree: PyTree, *index: int) -> Any:
    """One of several states or parameters, in numpy: there, drawing needs no compilation."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def _draw(task: Task, state: Any, params: Any) -> Image:
    # Drawing is no part of the protocol: training needs none.
    render = getattr(task.environment, "render", None)
    if render is None:
        raise BadInput(f"{task.spec.name} cannot be drawn: its environment has no render")
    return render(state, params)


def _first_images(task: Task, episodes: FixedEpisodes) -> list[list[Image]]:
    reset = jax.jit(jax.vmap(task.environment.reset_from))
    states = reset(episodes.words, episodes.params)[1]
    num_levels, num_episodes = episodes.words.shape[:2]
    return [
        [
            _draw(task, _at(states, row, number), _at(episodes.params, row))
            for number in range(num_episodes)
        ]
        for row in range(num_levels)
    ]


def _films(
    task: Task, episodes: FixedEpisodes, chosen_by: Acting, num_frames: int, shots: Shots
) -> Iterator[Film]:
    """Play key for key as `jaxgen.evaluation.episodes` does."""
    del num_frames
    environment, params = task.environment, jax.tree.map(lambda leaf: leaf[0], episodes.params)
    begin = jax.jit(lambda words: environment.reset_from(words, params))

    @jax.jit
    def step(obs: Array, state: Any, time: Array, key: Array):
        action = chosen_by.choose(obs, on_device.step_words(key, time, chosen_by.num_words))
        return environment.advance(state, environment.spec.actions.scale(action), params)

    drawn = lambda state: shots.keep(_draw(task, _at(state), _at(params)))  # noqa: E731
    for number, (words, key) in enumerate(zip(episodes.words[0], episodes.keys[0], strict=True)):
        if not shots.takes(number):
            continue
        obs, state = begin(words)
        frames, total, ended, time = [drawn(state)], np.float32(0), False, 0
        while not ended:
            obs, state, reward, terminated, truncated = step(obs, state, np.uint32(time), key)
            total += np.float32(reward)
            time += 1
            ended = bool(terminated | truncated)
            if ended or time % shots.every == 0:
                frames.append(drawn(state))
        yield Film(frames, time, float(total))


def host_suite(task: HostTask, key: Array, levels: tuple[float, ...], num_episodes: int) -> Suite:
    """Lay out episodes of an environment on the host."""
    episodes = on_host.make_host_episodes(task, key, levels, num_episodes)

    def play(policy: Policy, params: PyTree, sampled: bool, num_frames: int) -> Played:
        choose = partial(_choose, policy, sampled, jnp.asarray(params))
        return on_host.play(task.spec, episodes, Acting(choose, policy.num_words), num_frames)

    def known() -> Known:
        kinds = task.kinds(levels, num_episodes)
        best = kinds.high[kinds.index]
        return Known(best, None, kinds)

    return Suite(
        episodes,
        play,
        play_by=lambda choose: on_host.play(
            task.spec, episodes, Acting(lambda obs, _: choose(np.asarray(obs)), 1),
            to_environment=lambda action: action,
        ),
        random=lambda: on_host.random_host_returns(task.spec, episodes),
        known=known,
        level_seeds=episodes.episodes.level_seeds,
        first_images=lambda: on_host.first_images(episodes, _shown(task.spec, episodes)),
        films=partial(_host_films, task.spec, episodes),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _choose(policy: Policy, sampled: bool, params: Array, obs: Array, words: Array) -> Array:
    return acting(policy, params, sampled).choose(obs, words)


def _shown(spec: EnvSpec, episodes: on_host.QueuedEpisodes) -> Callable[[int, Image], Image]:
    """(slot, what it shows) -> its picture; BadInput: it shows numbers, and nothing draws them."""
    if spec.is_image:
        return lambda slot, seen: seen
    draw: Callable[[int], Image] | None = getattr(episodes.episodes, "render", None)
    if draw is None:
        raise BadInput(f"{spec.name} cannot be drawn: it runs on the host and shows no images")
    return lambda slot, seen: draw(slot)


def _host_films(
    spec: EnvSpec,
    episodes: on_host.QueuedEpisodes,
    chosen_by: Acting,
    num_frames: int,
    shots: Shots,
) -> Iterator[Film]:
    shown = _shown(spec, episodes)
    filmed = on_host.Filmed(
        episodes.episodes, lambda slot, seen: shots.keep(shown(slot, seen)), shots.takes,
        shots.every, shows_end=not spec.is_image,
    )  # fmt: skip
    played = on_host.play(spec, episodes._replace(episodes=filmed), chosen_by, num_frames)
    for number, total in enumerate(played.returns[0]):
        if shots.takes(number):
            yield Film(filmed.frames[number], filmed.lengths[number], float(total))
