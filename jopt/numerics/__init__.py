"""Arrays in, arrays out: the arithmetic that update rules share. Knows no trees."""

from jopt.numerics.dtypes import as_complex as as_complex
from jopt.numerics.dtypes import as_pairs as as_pairs
from jopt.numerics.dtypes import compute_dtype as compute_dtype
from jopt.numerics.dtypes import is_complex as is_complex
from jopt.numerics.dtypes import number_dtype as number_dtype
from jopt.numerics.dtypes import real_dtype as real_dtype
from jopt.numerics.dtypes import widest as widest
from jopt.numerics.line_search import strong_wolfe as strong_wolfe
from jopt.numerics.moments import adam_corrections as adam_corrections
from jopt.numerics.moments import adam_direction as adam_direction
from jopt.numerics.moments import adam_moments as adam_moments
from jopt.numerics.moments import debias as debias
from jopt.numerics.moments import lerp as lerp
from jopt.numerics.newton_schulz import newton_schulz as newton_schulz
from jopt.numerics.norms import global_norm as global_norm
from jopt.numerics.norms import norm as norm
from jopt.numerics.norms import sum_of_squares as sum_of_squares
from jopt.numerics.quasi_newton import QuasiNewton as QuasiNewton
from jopt.numerics.quasi_newton import inverse_hessian_weights as inverse_hessian_weights
from jopt.numerics.quasi_newton import turned as turned
from jopt.numerics.roots import safe_sqrt as safe_sqrt
from jopt.numerics.vectors import Vector as Vector
from jopt.numerics.vectors import vector_dot as vector_dot
from jopt.numerics.vectors import vector_l1 as vector_l1
from jopt.numerics.vectors import vector_max as vector_max
from jopt.numerics.vectors import vector_step as vector_step
