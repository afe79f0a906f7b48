"""Figures, always beside a control in the same run; never a test."""
