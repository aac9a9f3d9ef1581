"""Arrays in, arrays out: the arithmetic that update rules share. Knows no trees."""

from jopt.numerics.dtypes import as_complex as as_complex
from jopt.numerics.dtypes import as_pairs as as_pairs
from jopt.numerics.dtypes import compute_dtype as compute_dtype
from jopt.numerics.dtypes import is_complex as is_complex
from jopt.numerics.dtypes import number_dtype as number_dtype
from jopt.numerics.dtypes import real_dtype as real_dtype
from jopt.numerics.dtypes import widest as widest
from jopt.numerics.moments import adam_corrections as adam_corrections
from jopt.numerics.moments import adam_direction as adam_direction
from jopt.numerics.moments import adam_moments as adam_moments
from jopt.numerics.moments import debias as debias
from jopt.numerics.moments import lerp as lerp
from jopt.numerics.newton_schulz import newton_schulz as newton_schulz
from jopt.numerics.norms import global_norm as global_norm
from jopt.numerics.norms import norm as norm
from jopt.numerics.norms import sum_of_squares as sum_of_squares
