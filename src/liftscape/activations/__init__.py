"""Affine pieces, affine tails, kinks and inflections of activations, in every spelling that torch has."""

from liftscape.activations._inflections import Inflection, inflections
from liftscape.activations._kinds import Kind, as_module, kind_of, module_of
from liftscape.activations._piece_table import PieceTable, occupied_piece, piece_table
from liftscape.activations._pieces import AffinePiece, affine_pieces, is_positively_homogeneous, kinks
from liftscape.activations._tails import affine_tails, tail_beyond

__all__ = [
    "AffinePiece",
    "Inflection",
    "Kind",
    "PieceTable",
    "affine_pieces",
    "affine_tails",
    "as_module",
    "inflections",
    "is_positively_homogeneous",
    "kind_of",
    "kinks",
    "module_of",
    "occupied_piece",
    "piece_table",
    "tail_beyond",
]
