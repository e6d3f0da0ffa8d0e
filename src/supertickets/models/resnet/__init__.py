"""ResNets with attention modules on their blocks (LTH4SA)."""
