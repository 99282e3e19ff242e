"""The demo: data to try the service with, built by the same domain calls as everything else. Nothing real uses it."""

import secrets
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.db import transaction

from baskets.domain import partners
from baskets.models import ApiKey, Partner

PARTNER = "demo"
ADMINISTRATOR = "admin"
USER_ID = "demo-anna"
AUTHOR = "load_demo"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What one needs to try the demo. Secrets are here only in the moment they are made."""

    api_key: str | None
    admin_user: str
    admin_password: str | None
    user_id: str
    order_no: str | None


def load(*, new_api_key: bool = False, new_admin_password: bool = False) -> Demo:
    """Make what is missing of the demo, and leave what is there.

    :param new_api_key: issue another key although there is one, because its text is known to nobody any more.
    :param new_admin_password: give the administrator another password, for the same reason.
    """
    api_key, admin_password = _access(new_api_key=new_api_key, new_admin_password=new_admin_password)
    return Demo(
        api_key=api_key, admin_user=ADMINISTRATOR, admin_password=admin_password, user_id=USER_ID, order_no=None
    )


@transaction.atomic
def _access(*, new_api_key: bool, new_admin_password: bool) -> tuple[str | None, str | None]:
    partner = _partner(PARTNER)
    api_key = None
    if new_api_key or not ApiKey.objects.valid().filter(partner=partner, kind=ApiKey.Kind.SERVER).exists():
        _, api_key = partners.issue_api_key(partner_name=PARTNER, label="demo", created_by=AUTHOR)
    return api_key, _administrator_password(renew=new_admin_password)


def _partner(name: str) -> Partner:
    try:
        return partners.create_partner(name=name)
    except partners.PartnerNameTaken:
        return Partner.objects.get(name=name)


def _administrator_password(*, renew: bool) -> str | None:
    users = get_user_model().objects
    administrator = users.filter(username=ADMINISTRATOR).first()
    if administrator is not None and not renew:
        return None
    password = secrets.token_urlsafe(15)
    if administrator is None:
        users.create_superuser(ADMINISTRATOR, password=password)
    else:
        administrator.set_password(password)
        administrator.save(update_fields=["password"])
    return password
