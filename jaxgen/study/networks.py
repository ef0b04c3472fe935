"""Networks and activations by the names that configurations give; no JAX."""

from jaxgen.techniques import check_new

ACTIVATIONS = ("relu", "tanh", "elu", "gelu", "silu")
"""Functions between the layers of an ``mlp``."""

IMAGE_ENCODERS = {
    "nature": "jaxgen.nn.vision:NatureEncoder",
    "impala": "jaxgen.nn.vision:ImpalaEncoder",
}
"""``"module:name"`` of the encoders that read images alone."""

NETWORKS: dict[str, str | None] = {"mlp": None, **IMAGE_ENCODERS}
"""``"module:name"`` of what makes each encoder of observations; ``mlp`` has none."""


def register_network(name: str, make: str, replace: bool = False) -> None:
    """Make an encoder of observations known by its name, for ``network`` of all algorithms.

    Args:
      name: the name, as in ``--set network=NAME``.
      make: ``"module:name"`` of a function (hidden, the configuration's tuple) -> a
        `flax.linen.Module` that maps observations ``[B, *obs_shape]`` to features ``[B, F]``.
        Outputs of the algorithm are linear in the features; a policy and its values share them.
      replace: take the place of another one of the same name.

    Raises:
      BadInput: the name cannot be one, or another network has it.
    """
    if not replace:
        check_new("network", name, make, NETWORKS)
    NETWORKS[name] = make
