"""What the page of experiments shows: who may be the champion, what A/B tests say, what a change would change."""
