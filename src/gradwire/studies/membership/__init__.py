"""Membership runs: shadow models at scale, and every attack on every one of them."""

from gradwire.studies.membership.judging import judge, judge_file
from gradwire.studies.membership.owned import judge_model
from gradwire.studies.membership.rows import COLUMNS
from gradwire.studies.membership.run import run_membership
from gradwire.studies.membership.settings import MembershipSettings

__all__ = ["COLUMNS", "MembershipSettings", "judge", "judge_file", "judge_model", "run_membership"]
