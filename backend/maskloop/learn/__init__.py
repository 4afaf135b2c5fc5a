"""Submissions to a better version."""
