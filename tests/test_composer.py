"""The fast composer gives what Hydra's own load_sweep_config gives, for every form of override."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.composing.compose import register, run_config
from pipeline.composing.composer import Composer
from pipeline.config import RunConfig
from pipeline.paths import find
from tests.factory import PROPERTY

GOOD = [
    "seed=3",
    "training.learning_rate=1e-3",
    "training.learning_rate=2",
    'training.learning_rate="0.25"',
    "training.epochs=0",
    "network.hidden=[]",
    "network.hidden=[4,5]",
    "network.hidden.0=7",
    "network.bias=true",
    "training.metrics=[mse,mean_abs]",
    "training.batch_size=null",
    'data.name="a=b, ä"',
    "data.name='it is'",
    "data.name=a b",
    "data.X=[[0,0],[0,1],[1.5,0]]",
    "data.y=[0,1,1]",
    "data.rows=null",
    "data=exam",
    "data=[happiness,exam]",
    "init=uniform",
    "init=given",
    "init.low=-0.5",
    "tracking=none",
    "tracking=mlflow",
    "executor=serial",
    "experiment=happiness",
    "experiment=cat_shop",
    "experiment=architectures",
    "training={epochs: 7, loss: mse}",
    "data={name: other, scaling: standard}",
    "++seed=5",
    "++network.hidden=[2]",
    "+network.hidden=[3]",
    "++training.learning_rate=3",
    "~experiment",
    "~tracking",
    "~init=normal",
    "training.learning_rate=${training.epochs}",
    "tracking.experiment=${data.name}-${seed}",
    "tracking.uri=${oc.env:NO_SUCH_VARIABLE,null}",
    "data.name=str(5)",
]
BAD = [
    "sede=1",
    "training.lr=1",
    "+seed=1",
    "~network.hidden",
    "~foo",
    "seed=abc",
    "seed=null",
    "seed.a=1",
    "network.hidden=4",
    "network.hidden.9=1",
    "data.name=[a]",
    "training=5",
    "data=foo",
    "data=5",
    "data@foo=exam",
    "seed@foo=1",
    "+data=exam",
    "experiment=foo",
    "experiment=null",
]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    """The composer of a sweep without overrides of its own."""
    register()
    with initialize_config_dir(config_dir=str(find("conf")), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config(config_name="config", overrides=[], run_mode=RunMode.MULTIRUN)
        yield Composer(hydra.config_loader, master)


def by_hydra(composer: Composer, words: list[str]) -> DictConfig:
    """What Hydra composes for the same words, without its own node."""
    cfg = composer.loader.load_sweep_config(composer.master, words)
    with open_dict(cfg):
        del cfg["hydra"]
    assert isinstance(cfg, DictConfig)
    return cfg


def nodes(cfg: Any) -> Any:
    """A config as nested dicts of unresolved values with the classes of the nodes that hold them."""
    if OmegaConf.is_dict(cfg):
        return OmegaConf.get_type(cfg), {str(key): nodes(cfg._get_node(key)) for key in cfg}
    if OmegaConf.is_list(cfg):
        return "list", OmegaConf.to_container(cfg)
    return type(cfg), cfg._value()


def outcome(compose: Callable[[list[str]], DictConfig], words: list[str]) -> Any:
    """The nodes of the composed config, or the error's kind and text."""
    try:
        return nodes(compose(words))
    except Exception as error:  # noqa: BLE001  # whatever Hydra raises, ours must be the same
        return type(error), str(error)


def assert_same(composer: Composer, words: list[str]) -> None:
    """Fails unless both give the same config, or the same error."""
    assert outcome(composer.composed, words) == outcome(partial(by_hydra, composer), words)


@pytest.mark.parametrize("word", GOOD)
def test_a_word_gives_the_same_config(composer: Composer, word: str) -> None:
    assert nodes(composer.composed([word])) == nodes(by_hydra(composer, [word]))


@pytest.mark.parametrize("word", BAD)
def test_a_bad_word_gives_the_same_error(composer: Composer, word: str) -> None:
    kind, text = outcome(composer.composed, [word])
    assert issubclass(kind, Exception)
    assert (kind, text) == outcome(partial(by_hydra, composer), [word])


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1", "seed=2"],
        ["data=exam", "data=cat_shop"],
        ["experiment=happiness", "training.epochs=5", "tracking=none"],
        ["training.epochs=5", "experiment=happiness"],
        ["data=exam", "data.X=[[1],[2],[3]]", "data={name: a}"],
        ["network.hidden=[3,2]", "network.hidden.1=5"],
        ["init=given", "init.weights=[[[1,2]],[[1],[2]]]", "seed=0"],
        ["~experiment", "experiment=happiness"],
    ],
)
def test_several_words_give_the_same_config(composer: Composer, words: list[str]) -> None:
    assert_same(composer, words)


@settings(PROPERTY, max_examples=10)
@given(words=st.lists(st.sampled_from(GOOD + BAD), min_size=2, max_size=5))
def test_any_words_give_the_same(composer: Composer, words: list[str]) -> None:
    assert_same(composer, words)


def test_the_checked_configs_are_the_same(composer: Composer) -> None:
    words = ["experiment=cat_shop", "training.learning_rate=${seed}", "seed=3", "data.y=[0,1,1,0]"]
    assert repr(composer(words)) == repr(run_config(by_hydra(composer, words)))


def checked(compose: Callable[[list[str]], RunConfig], words: list[str]) -> str:
    """The checked config in full (1 is not 1.0 there), or the error's kind and text."""
    try:
        return repr(compose(words))
    except Exception as error:  # noqa: BLE001  # whatever is raised, both ways must raise the same
        return f"{type(error)} {error}"


def exactly(composer: Composer, words: list[str]) -> RunConfig:
    """The checked config without templates."""
    return run_config(composer.composed(words))


PLAIN = [word for word in GOOD if not word.startswith(("+", "~")) and "${" not in word] + [
    "seed=007",
    "seed=+3",
    "seed=-0",
    "seed=1_000",
    "seed=1e3",
    "seed=99999999999999999999",
    "training.learning_rate=0",
    "training.epochs=-1",
    "data.rows=[a,b,c]",
    "data.divide_by=[1,2,3,4]",
    "data.scaling=divide",
    "data.name=???",
    "tracking.uri=null",
    "tracking.experiment=mine",
    "init.high=-3",
    "init.weights=[[[1,2]],[[1],[2]]]",
    "network.hidden=[a]",
    "network.hidden=[1.5]",
    "data.X=[[{a: 1}]]",
    "data.name=null",
]


@pytest.mark.parametrize("word", dict.fromkeys(GOOD + BAD + PLAIN))
def test_a_template_gives_the_same(composer: Composer, word: str) -> None:
    for words in ([word], ["data=exam", word], [word, "seed=7", "network.hidden=[2]", "training.epochs=3"]):
        assert checked(composer, words) == checked(partial(exactly, composer), words)


SOME_WORDS = st.lists(st.sampled_from(GOOD + BAD + PLAIN + PLAIN), min_size=2, max_size=6)


@PROPERTY
@given(words=SOME_WORDS)
def test_templates_give_the_same_for_any_words(composer: Composer, words: list[str]) -> None:
    assert checked(composer, words) == checked(partial(exactly, composer), words)


@pytest.mark.slow
@settings(PROPERTY, max_examples=200)
@given(words=SOME_WORDS)
def test_templates_give_the_same_for_many_more_words(composer: Composer, words: list[str]) -> None:
    assert checked(composer, words) == checked(partial(exactly, composer), words)


@pytest.mark.parametrize(
    "words",
    [
        ["data.name=other"],
        ["training.epochs=${seed}", "seed=3"],
        ["training.epochs=${seed}", "seed=${data.target_divide_by}", "data.target_divide_by=7"],
        ["tracking.experiment=x-${oc.select:training.epochs}", "training.epochs=5"],
        ["tracking.experiment=${training}", "training.epochs=5"],
        ["tracking.experiment=${.artifacts}", "tracking.artifacts=there"],
        ["tracking.experiment=${${data.name}.scale}", "data.name=init", "init.scale=2"],
        ["tracking.experiment=\\\\${seed}", "seed=5"],
        ["data={name: other}", "data.X=[[1],[2],[3]]"],
        ["network.hidden.0=3", "network.hidden=[4,5]"],
        ["network.hidden=[4,5]", "network.hidden.0=3"],
        ["init=given", "init.weights=[[[1,2,3,4]]]", "seed=3"],
        ["seed=abc", "sede=1"],
        ["sede=1", "seed=abc"],
        ["training.epochs=-1", "network.hidden=[0]"],
        ["seed=1,2", "training.epochs=3"],
        ["data.divide_by=1,2", "data.scaling=divide"],
    ],
)
def test_a_value_that_others_look_up_or_that_is_given_in_part(composer: Composer, words: list[str]) -> None:
    for _ in range(2):  # the second time from what was kept
        assert checked(composer, words) == checked(partial(exactly, composer), words)


def test_values_do_not_stay_behind_in_a_template(composer: Composer) -> None:
    for word in ("data.rows=[a,b,c]", "data.rows=null", "data.rows=[x,y,z]", "network.hidden=[a]", "network.hidden=[]"):
        for words in ([word], ["seed=1"]):
            assert checked(composer, words) == checked(partial(exactly, composer), words)


def test_a_sweep_takes_the_quick_way(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fresh = Composer(composer.loader, composer.master)
    composed = fresh.composed

    def noted(words: Iterable[str]) -> DictConfig:
        calls.append(words)
        return composed(words)

    monkeypatch.setattr(fresh, "composed", noted)
    name = "tracking.experiment=x-${data.name}"
    jobs = [
        [f"data={data}", f"seed={seed}", f"training.learning_rate={rate}", "network.hidden=[2,3]", name]
        for data in ("exam", "happiness")
        for seed in range(5)
        for rate in ("0.1", "1")
    ]
    configs = [fresh(words) for words in jobs]
    assert calls == [("data=exam", name), ("data=happiness", name)]
    assert len({id(config.data) for config in configs}) == 2
    assert len({id(config.training) for config in configs}) == 4
    assert list(map(repr, configs)) == [repr(exactly(composer, words)) for words in jobs]


def test_hydra_composes_once_for_each_choice_of_groups(composer: Composer) -> None:
    fresh = Composer(composer.loader, composer.master)
    for seed in range(5):
        for data in ("exam", "cat_shop"):
            assert fresh([f"seed={seed}", f"data={data}"]).seed == seed
    assert len(fresh.bases) == 2


def test_a_job_does_not_change_the_next(composer: Composer) -> None:
    before = nodes(composer.composed(["data=exam"]))
    changed = composer.composed(["data=exam", "data.X.0=[5,5]", "network.hidden=[9]"])
    changed.data.X[1][0] = 99
    assert nodes(composer.composed(["data=exam"])) == before
