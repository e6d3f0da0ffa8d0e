"""Tickets: networks as folders of JSON and safetensors that run without the training code."""

from .compatibility import check_classes, check_data
from .ticket import FORMAT_VERSION, Ticket, load

__all__ = ["FORMAT_VERSION", "Ticket", "check_classes", "check_data", "load"]
