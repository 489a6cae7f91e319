"""The papers whose recipes are presets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a recipe was published.

    Args:
        authors: their names.
        title: of the paper.
        year: of its publication.
    """

    authors: str
    title: str
    year: int

    def __str__(self) -> str:
        return f"{self.authors}: {self.title}, {self.year}"


SRIVASTAVA = Source("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov",
                    "Dropout: a simple way to prevent neural networks from overfitting", 2014)
TOMPSON = Source("Tompson, Goroshin, Jain, LeCun, Bregler", "Efficient object localization using convolutional networks", 2015)
GHIASI = Source("Ghiasi, Lin, Le", "DropBlock: a regularization method for convolutional networks", 2018)
MERITY = Source("Merity, Keskar, Socher", "Regularizing and optimizing LSTM language models", 2018)
ZAREMBA = Source("Zaremba, Sutskever, Vinyals", "Recurrent neural network regularization", 2014)
VASWANI = Source("Vaswani et al.", "Attention is all you need", 2017)
LIU = Source("Liu, Xu, Jin, Shen, Darrell", "Dropout reduces underfitting", 2023)
CONVNEXT = Source("Liu, Mao, Wu, Feichtenhofer, Darrell, Xie", "A ConvNet for the 2020s", 2022)
SWIN = Source("Liu et al.", "Swin transformer: hierarchical vision transformer using shifted windows", 2021)
HUANG = Source("Huang, Sun, Liu, Sedra, Weinberger", "Deep networks with stochastic depth", 2016)
