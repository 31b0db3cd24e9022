"""Feedback of a round: the guide, how strong it steers, and what that changed."""
