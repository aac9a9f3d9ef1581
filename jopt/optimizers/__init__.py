"""Optimizers, one algorithm a file, the file named as the function."""

from jopt.optimizers.acprop import acprop as acprop
from jopt.optimizers.adabelief import adabelief as adabelief
from jopt.optimizers.adabound import adabound as adabound
from jopt.optimizers.adadelta import adadelta as adadelta
from jopt.optimizers.adafactor import adafactor as adafactor
from jopt.optimizers.adagrad import adagrad as adagrad
from jopt.optimizers.adam import adam as adam
from jopt.optimizers.adam_mini import adam_mini as adam_mini
from jopt.optimizers.adamax import adamax as adamax
from jopt.optimizers.adamw import adamw as adamw
from jopt.optimizers.adan import adan as adan
from jopt.optimizers.ademamix import ademamix as ademamix
from jopt.optimizers.adopt import adopt as adopt
from jopt.optimizers.apollo import apollo as apollo
from jopt.optimizers.asgd import asgd as asgd
from jopt.optimizers.came import came as came
from jopt.optimizers.cocob import cocob as cocob
from jopt.optimizers.dadapt_adamw import dadapt_adamw as dadapt_adamw
from jopt.optimizers.dion2 import dion2 as dion2
from jopt.optimizers.dog import dog as dog
from jopt.optimizers.dowg import dowg as dowg
from jopt.optimizers.fromage import fromage as fromage
from jopt.optimizers.kron import kron as kron
from jopt.optimizers.lamb import lamb as lamb
from jopt.optimizers.lars import lars as lars
from jopt.optimizers.lbfgs import lbfgs as lbfgs
from jopt.optimizers.lion import lion as lion
from jopt.optimizers.madgrad import madgrad as madgrad
from jopt.optimizers.momo import momo as momo
from jopt.optimizers.momo_adam import momo_adam as momo_adam
from jopt.optimizers.muon import muon as muon
from jopt.optimizers.nadam import nadam as nadam
from jopt.optimizers.noisy_sgd import noisy_sgd as noisy_sgd
from jopt.optimizers.normuon import normuon as normuon
from jopt.optimizers.novograd import novograd as novograd
from jopt.optimizers.optimistic_adam import optimistic_adam as optimistic_adam
from jopt.optimizers.optimistic_adam import optimistic_adam_v2 as optimistic_adam_v2
from jopt.optimizers.optimistic_gradient_descent import (
    optimistic_gradient_descent as optimistic_gradient_descent,
)
from jopt.optimizers.polyak_sgd import polyak_sgd as polyak_sgd
from jopt.optimizers.prodigy import prodigy as prodigy
from jopt.optimizers.radam import radam as radam
from jopt.optimizers.rmsprop import rmsprop as rmsprop
from jopt.optimizers.rprop import rprop as rprop
from jopt.optimizers.sgd import sgd as sgd
from jopt.optimizers.shampoo import shampoo as shampoo
from jopt.optimizers.sign_sgd import sign_sgd as sign_sgd
from jopt.optimizers.signum import signum as signum
from jopt.optimizers.simplified_ademamix import simplified_ademamix as simplified_ademamix
from jopt.optimizers.sm3 import sm3 as sm3
from jopt.optimizers.soap import soap as soap
from jopt.optimizers.sophia import sophia as sophia
from jopt.optimizers.sparse_adam import sparse_adam as sparse_adam
from jopt.optimizers.tiger import tiger as tiger
from jopt.optimizers.yogi import yogi as yogi
