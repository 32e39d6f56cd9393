"""What `jaxdrl envs` lists."""

import pytest

from jaxdrl import spaces
from jaxdrl.cli import list_envs, main
from jaxdrl.envs.suites import registry


def test_the_suites_are_listed_with_what_installs_them(capsys, monkeypatch):
    absent = registry.BuiltIn("jaxdrl.envs.nobodys", "nobodys_package")
    monkeypatch.setitem(registry.BUILT_IN, "nobodys", absent)
    main.main(["envs"])
    out = capsys.readouterr().out
    assert "pip install 'jaxdrl[nobodys]'" in out and "jaxdrl envs gymnax" in out


def test_the_environments_of_a_suite_are_listed_with_spaces_and_limits(capsys, monkeypatch):
    main.main(["envs", "gymnax"])
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.split()}
    assert rows["CartPole-v1"] == ["float32[4]", "2", "500"]
    assert rows["Pendulum-v1"] == ["float32[3]", "float32[1]", "200"]
    assert len(rows) == 26


def test_an_unknown_suite_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["envs", "brux"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: suite = 'brux': unknown; the nearest: brax")


def test_the_suites_that_there_are_include_the_first(capsys):
    with pytest.raises(SystemExit):
        main.main(["envs", "wwww"])
    err = capsys.readouterr().err
    assert all(name in err for name in ("gymnax, ", "brax, ", "xminigrid"))
    assert err.count("\n") == 1


def test_a_dictionary_is_listed_by_its_names():
    space = spaces.Dict({"b": spaces.MultiDiscrete((2, 3)), "a": spaces.Box(0, 1, (2,), "uint8")})
    assert list_envs.in_words(space) == "{a: uint8[2], b: 2 x 3}"
