"""How a command works: plan, run, resume, roll back, expire."""
