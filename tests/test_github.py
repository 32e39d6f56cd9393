"""What the host of the repository reads: workflows, forms for issues, and how to cite."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml  # which the tools of the documentation bring

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PYTHONS = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]


def read(path):
    content = yaml.safe_load(path.read_text())
    if True in content:  # YAML takes the key `on` for a truth value
        content["on"] = content.pop(True)
    return content


def steps(path):
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_there_are_three_workflows():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "docs.yml", "publish.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_is_a_pinned_action_or_a_target_of_make(path):
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", step["uses"])
        elif step["run"].startswith("make "):
            command = step["run"].replace("${{ matrix.versions }}", "lowest")
            _, target, *settings = re.sub(r"\$\{\{.*?\}\}", "", command).split()
            assert re.search(rf"^{target}:.*##", MAKEFILE, re.MULTILINE)
            for setting in settings:
                assert re.search(rf"^{setting.partition('=')[0]} *\?=", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_ends_and_may_no_more_than_it_needs(path):
    workflow = read(path)
    assert workflow["permissions"]["contents"] == "read"
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    assert "secrets." not in path.read_text()


def test_every_supported_python_is_tested():
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    assert PYTHONS == ["3.11", "3.12", "3.13"]
    assert all(job["strategy"]["matrix"]["python"] == PYTHONS for job in jobs.values())
    assert jobs["ranges"]["strategy"]["matrix"]["versions"] == ["lowest", "newest"]


def test_only_the_step_that_publishes_may_do_so():
    workflow = read(ROOT / ".github/workflows/publish.yml")
    assert workflow["on"] == {"release": {"types": ["published"]}}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert "permissions" not in build
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build" and publish["environment"]["name"] == "pypi"
    assert not any(
        "run" in step for step in publish["steps"]
    )  # nothing of the repository runs there


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_ask_for_something(path):
    form = read(path)
    if path.name == "config.yml":
        assert form["contact_links"][0]["url"].startswith(PROJECT["urls"]["Repository"])
        return
    assert form["name"] and form["description"]
    assert {field["type"] for field in form["body"]} == {"textarea"}
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names)
    assert form["body"][0]["validations"]["required"] is True


def test_the_citation_agrees_with_the_project():
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert "version" not in citation  # which is written in one place


@pytest.mark.parametrize("name", PROJECT["urls"])
def test_every_address_of_the_project_is_of_one_repository(name):
    owner, _, repository = (
        PROJECT["urls"]["Repository"].removeprefix("https://github.com/").partition("/")
    )
    places = (PROJECT["urls"]["Repository"], f"https://{owner}.github.io/{repository}/")
    assert PROJECT["urls"][name].startswith(places)
