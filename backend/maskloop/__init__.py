"""MaskLoop: click-to-mask for Label Studio that learns from every submitted annotation."""

__version__ = "0.1.0"
