"""Plain residual networks of 3x3 convolutions (He et al., 2016)."""
