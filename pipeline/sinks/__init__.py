"""Where results go: `redis.py` publishes them, `window.py` holds what is not confirmed yet."""
