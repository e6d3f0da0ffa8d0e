"""The multi-resolution supernet (HR-NAS, SuperTickets)."""
