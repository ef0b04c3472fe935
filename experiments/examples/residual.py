"""A network: residual blocks with layer normalisation, for observations that are numbers."""

from flax import linen

import jaxgen


class Residual(linen.Module):
    hidden: tuple[int, ...]

    @linen.compact
    def __call__(self, obs):
        width = self.hidden[0]
        x = linen.Dense(width)(obs.reshape(len(obs), -1).astype("float32"))
        for inner in self.hidden:
            block = linen.relu(linen.Dense(inner)(linen.LayerNorm()(x)))
            x = x + linen.Dense(width)(block)
        return linen.LayerNorm()(x)


jaxgen.register_network("residual", "residual:Residual")
