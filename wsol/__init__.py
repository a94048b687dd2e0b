"""Weakly supervised object localisation: class activation maps and MaxBoxAccV2."""
