"""Inputs that the cases of several families share."""

from __future__ import annotations

PAD = 1

# Two texts of five tokens; ids 5 and up are words, PAD is 1, 0 and 2 are <s> and </s>.
IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
RIGHT = [[0, 17, 5, 23, 2], [0, 28, 2, PAD, PAD]]
RIGHT_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
LEFT = [[0, 17, 5, 23, 2], [PAD, PAD, 0, 28, 2]]
LEFT_MASK = [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
INSIDE = [[0, 17, PAD, 23, 2], [0, PAD, 11, PAD, 2]]
INSIDE_MASK = [[1, 1, 0, 1, 1], [1, 0, 1, 0, 1]]
PADDED = {"input_ids": RIGHT, "attention_mask": RIGHT_MASK}
LEFT_PADDED = {"input_ids": LEFT, "attention_mask": LEFT_MASK}
# As many tokens as there are positions; padding on the left; inside and on the right; one token.
EVERY = {
    "input_ids": [
        [0, 28, 11, 8, 17, 2],
        [PAD, PAD, 0, 23, 4, 2],
        [0, 16, PAD, 6, 2, PAD],
        [14, PAD, PAD, PAD, PAD, PAD],
    ],
    "attention_mask": [[1] * 6, [0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0], [1] + [0] * 5],
}
SIX_POSITIONS = {"max_position_embeddings": 8}
# A mask for each query: one that may look at nothing, one at padding.
EACH_QUERY = {
    "input_ids": RIGHT,
    "attention_mask": [
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [1, 1, 1, 1, 0], [1] * 5],
        [[0, 1, 0, 1, 0], [1] * 5, [0, 0, 0, 0, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 1]],
    ],
}
# More tokens were kept than bfloat16 can count.
BEFORE = [[3 + 7 * i % 26 for i in range(257)]]
BEHIND = {"input_ids": [[17, 5, 23]]}
FEW_NUMBERS = {"hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 5}
LABELS = [[-100, 17, -100, 4, -100], [3, -100, 28, -100, -100]]
TAGS = [[-100, 3, 0, 1, -100], [-100, 2, -100, 1, -100]]
SPANS = {"start_positions": [1, 2], "end_positions": [3, 9]}
CHOICES = {
    "input_ids": [
        [[0, 17, 5, 2], [0, 28, 2, PAD], [0, 9, 11, 2]],
        [[0, 6, 2, PAD], [0, 4, 12, 2], [0, 2, PAD, PAD]],
    ],
    "attention_mask": [
        [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]],
        [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]],
    ],
    "token_type_ids": [
        [[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]],
        [[0, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 0]],
    ],
    "labels": [2, 0],
}
