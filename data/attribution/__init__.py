"""Attribution: feedback becomes the rewards of decisions, and these become transitions."""
