"""Settings of how a run trains: by AutoMix, by a mixing method of `pretrain.mixups`, or on the clean images alone."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_type_hints

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pretrain import mixups
from pretrain.automix import AutoMixSettings
from pretrain.mixups import POLICIES, MixPolicy

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class VanillaSettings:
    """Training on the clean images alone."""

    name: Literal["vanilla"] = "vanilla"


@dataclass(frozen=True, config=STRICT)
class PolicySettings:
    """A mixing method of `pretrain.mixups`, and how it is trained with; `settings_of` adds the method's own settings.

    Attributes:
        name: Of the method.
        momentum, momentum_end: m of a momentum encoder (Eq. 12) at the start and at the end of the run, along a
            cosine; it is then the result ("+MP" of Table 10). None: there is none.
        one_hot_ce: Whether the network learns from the clean images too; "+CE" of Table 10.
        frozen_network: A trained one, for methods that follow one: see `pretrain.backbones.load_pretrained`.
    """

    name: str
    momentum: float | None = None
    momentum_end: float = 1.0
    one_hot_ce: bool = False
    frozen_network: str | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> PolicySettings:
        policy = self.policy()  # its own checks run here
        if policy.views and self.one_hot_ce:
            raise ValueError(
                f"one_hot_ce is part of '{self.name}' already, whose loss has the clean images: leave it out"
            )
        follows = bool({"features", "teacher"} & set(policy.needs))
        if self.frozen_network is not None and not follows:
            raise ValueError(f"frozen_network belongs to methods that follow one, not to '{self.name}': leave it out")
        if self.frozen_network is None and follows:
            raise ValueError(
                f"'{self.name}' needs a frozen network: set method.frozen_network to an exported backbone, or to the "
                "name of one of timm's pretrained networks, such as resnet50.tv_in1k"
            )
        return self

    def policy(self) -> MixPolicy:
        """Build the mixing method."""
        return mixups.build_from(asdict(self))


def settings_of(policy: type[MixPolicy]) -> type[PolicySettings]:
    """Return the settings of training with a method: `PolicySettings` and the fields of the method's dataclass."""
    hints = get_type_hints(policy)
    types = {"name": Literal[policy.name], **{entry.name: hints[entry.name] for entry in fields(policy)}}
    defaults = {"name": policy.name, **{entry.name: entry.default for entry in fields(policy)}}
    body = {"__annotations__": types, "__doc__": policy.__doc__, **defaults}
    build: Any = dataclass(frozen=True, config=STRICT)
    return build(type(f"{policy.__name__}Settings", (PolicySettings,), body))


if TYPE_CHECKING:
    MethodSettings = AutoMixSettings | VanillaSettings | PolicySettings
else:
    _CHOICES = (AutoMixSettings, VanillaSettings, *(settings_of(policy) for policy in POLICIES.values()))
    MethodSettings = Annotated[Union[_CHOICES], Field(discriminator="name")]  # noqa: UP007


METHODS: dict[str, Any] = {
    tag: choice for choice in get_args(get_args(MethodSettings)[0]) for tag in get_args(get_type_hints(choice)["name"])
}
