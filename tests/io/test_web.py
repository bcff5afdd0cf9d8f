"""URLs, without the passwords in them."""

import re

import pytest
from helpers import user_error

from pose.io.web import open_url, public_name, scheme


@pytest.mark.parametrize(
    ("given", "public"),
    [
        ("http://me:secret@host:1/a@b.jpg", "http://host:1/a@b.jpg"),
        ("rtsp://me:sec@ret@host", "rtsp://host"),
        ("HTTPS://me@[::1/a?b=c@d", "HTTPS://[::1/a?b=c@d"),
        ("http://host/me@there", "http://host/me@there"),
        ("/a/me@there", "/a/me@there"),
    ],
)
def test_the_public_name_of_a_url_lacks_user_and_password_and_nothing_else(given, public):
    assert public_name(given) == public


def test_a_scheme_is_in_any_case_and_paths_have_none():
    given = ("HTTP://a", "rtsp://a", "/http", "http:", 3)
    assert [scheme(one) for one in given] == ["http", "rtsp", "", "", ""]


@pytest.mark.parametrize("host", ["[::1", "host:port", ""])
def test_what_can_be_no_url_is_one_line_without_the_password(host):
    with user_error(f"^{re.escape(f'http://{host}/a')}: cannot be read (?!.*secret)"):
        open_url(f"http://me:secret@{host}/a", "x", 1)
