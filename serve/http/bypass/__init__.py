"""What goes past FastAPI and logging for speed, each with what it gains; `RAYCOMMEND_PLAIN=1` turns all of it off."""
