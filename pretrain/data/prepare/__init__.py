"""Arranging the paper's data sets on disk: from their archives to ROOT/{train,val}/<class>/ with a card."""

from pretrain.data.prepare.aircraft import AIRCRAFT
from pretrain.data.prepare.cifar import CIFAR10, CIFAR100
from pretrain.data.prepare.cub import CUB
from pretrain.data.prepare.imagenet import IMAGENET
from pretrain.data.prepare.inat import INAT2017, INAT2018
from pretrain.data.prepare.places import PLACES
from pretrain.data.prepare.tiny import TINY

DATA_SETS = (CIFAR10, CIFAR100, TINY, IMAGENET, CUB, AIRCRAFT, INAT2017, INAT2018, PLACES)
