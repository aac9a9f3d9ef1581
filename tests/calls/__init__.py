"""Every public callable with what does not belong into it: told by jopt's errors, or right."""
