"""The fast composer gives what Hydra's own load_sweep_config gives, for every form of override."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.compose import register, run_config
from pipeline.composer import Composer
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
    assert outcome(composer, words) == outcome(partial(by_hydra, composer), words)


@pytest.mark.parametrize("word", GOOD)
def test_a_word_gives_the_same_config(composer: Composer, word: str) -> None:
    assert nodes(composer([word])) == nodes(by_hydra(composer, [word]))


@pytest.mark.parametrize("word", BAD)
def test_a_bad_word_gives_the_same_error(composer: Composer, word: str) -> None:
    kind, text = outcome(composer, [word])
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
    assert run_config(composer(words)) == run_config(by_hydra(composer, words))


def test_hydra_composes_once_for_each_choice_of_groups(composer: Composer) -> None:
    fresh = Composer(composer.loader, composer.master)
    for seed in range(5):
        for data in ("exam", "cat_shop"):
            assert fresh([f"seed={seed}", f"data={data}"]).seed == seed
    assert len(fresh.bases) == 2


def test_a_job_does_not_change_the_next(composer: Composer) -> None:
    before = nodes(composer(["data=exam"]))
    changed = composer(["data=exam", "data.X.0=[5,5]", "network.hidden=[9]"])
    changed.data.X[1][0] = 99
    assert nodes(composer(["data=exam"])) == before
