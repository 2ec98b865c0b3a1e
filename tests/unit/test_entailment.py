"""Loading an entailment model: its labels, its batches, and what is said of models that are none."""

import json
import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

from rait.errors import ModelError
from rait.models.entailment import load_entailment, relations_of
from tiny import save

WORDS = ["red", "green", "blue", "one", "two", "three", "is", "not"]
LABELS = {0: "CONTRADICTION", 1: "Neutral", 2: "entailment"}


def config(labels=LABELS):
    return BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.5,
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
    )


def tokenizer():
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    return BertTokenizer(vocab=vocabulary, model_max_length=64)


def model(labels=LABELS, bias=None):
    """A random model; with a bias one that always gives the label of the highest."""
    torch.manual_seed(3)
    made = BertForSequenceClassification(config(labels)).eval()
    with torch.no_grad():
        made.classifier.weight.mul_(4 if bias is None else 0)
        made.classifier.bias.copy_(torch.tensor([0.0] * 3 if bias is None else bias))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(model(), tokenizer(), tmp_path_factory.mktemp("nli"))


def pairs(count=100):
    rng = random.Random(1)
    return [tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(2)) for _ in range(count)]


def test_a_batch_gives_what_each_pair_gives_alone(folder):
    entails = load_entailment(str(folder))

    together = entails(pairs())

    assert together == [entails([pair])[0] for pair in pairs()]
    assert set(together) == {"entailment", "neutral", "contradiction"}
    assert entails([]) == []


def test_labels_are_those_of_the_model(folder):
    """Against the network asked directly, without padding."""
    network = BertForSequenceClassification.from_pretrained(folder).eval()
    words = tokenizer()
    expected = []
    for pair in pairs(30):
        with torch.no_grad():
            logits = network(**words(*pair, return_tensors="pt")).logits[0]
        expected.append(LABELS[int(logits.argmax())].lower())

    assert load_entailment(str(folder))(pairs(30)) == expected


def test_premise_and_hypothesis_keep_their_places(folder):
    entails = load_entailment(str(folder))

    assert entails(pairs()) != entails([(hypothesis, premise) for premise, hypothesis in pairs()])


@pytest.mark.parametrize(
    "order", [("entailment", "neutral", "contradiction"), ("NEUTRAL", "Contradiction", "Entailment")]
)
@pytest.mark.parametrize("highest", [0, 1, 2])
def test_labels_in_any_order_and_case(order, highest, tmp_path):
    bias = [float(place == highest) for place in range(3)]
    save(model(dict(enumerate(order)), bias), tokenizer(), tmp_path)

    assert load_entailment(str(tmp_path))([("red", "blue")]) == [order[highest].lower()]


def test_a_long_text_is_cut(folder):
    assert len(load_entailment(str(folder))([("red " * 500, "blue " * 500)])) == 1


@pytest.mark.parametrize(
    "labels",
    [("LABEL_0", "LABEL_1", "LABEL_2"), ("entailment", "not_entailment"), ("entailment", "neutral", "neutral")],
)
def test_other_labels_are_refused(labels):
    with pytest.raises(ModelError, match=f"the labels {', '.join(labels)}, expected entailment, neutral"):
        relations_of(dict(enumerate(labels)), "some/model")


def test_what_cannot_be_loaded_is_said(folder, tmp_path):
    with pytest.raises(ModelError, match="cannot load the entailment model"):
        load_entailment(str(tmp_path / "nowhere"))
    # The labels alone make no classifier: the head would be random.
    torch.manual_seed(0)
    save(BertModel(config()), tokenizer(), tmp_path / "bare")
    found = json.loads((tmp_path / "bare/config.json").read_text())
    (tmp_path / "bare/config.json").write_text(json.dumps(found | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ModelError, match="holds no weights for classifier"):
        load_entailment(str(tmp_path / "bare"))
