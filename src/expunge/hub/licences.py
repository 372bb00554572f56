"""Licences of base models, which what is derived from them inherits: by the models' names on the Hub.

Source: the model cards; the Hub's identifiers of licences ("Repository licenses"). A name that is not here has no
licence that could be inherited: the user must say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from expunge.errors import UserError


@dataclass(frozen=True)
class Licence:
    """As a model card names it.

    Attributes:
        id: the Hub's identifier. name, link: of one that has none of its own (`other`).
        inherited: from which model; "" where the user said it.
    """

    id: str
    name: str = ""
    link: str = ""
    inherited: str = ""

    @property
    def matter(self) -> dict[str, str]:
        """The keys of a card's front matter."""
        keys = {"license": self.id, "license_name": self.name, "license_link": self.link}
        return {key: value for key, value in keys.items() if value}


_STABILITY = Licence("other", "stabilityai-ai-community", "https://stability.ai/license")
_FLUX_DEV = Licence("other", "flux-1-dev-non-commercial-license",
                    "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md")
KNOWN: tuple[tuple[str, Licence], ...] = (
    (r"(compvis|runwayml|stable-diffusion-v1-5)/stable-diffusion-(v1-[1-5]|inpainting)",
     Licence("creativeml-openrail-m")),
    (r"(stabilityai|sd2-community)/stable-diffusion-2(-1)?(-base)?", Licence("openrail++")),
    (r"stabilityai/stable-diffusion-xl-(base|refiner)-[01]\.[09]", Licence("openrail++")),
    (r"stabilityai/stable-diffusion-3(\.5)?-(medium|large|large-turbo)(-diffusers)?", _STABILITY),
    (r"black-forest-labs/flux\.1-(dev|fill-dev|kontext-dev)", _FLUX_DEV),
    (r"black-forest-labs/flux\.1-schnell", Licence("apache-2.0")))
"""Pattern of names, in small letters, and what they are under."""


def licence_of(base: str, id: str = "", name: str = "", link: str = "") -> Licence:
    """The licence of what is derived from `base`: as the user says it, else the base's own.

    Raises:
        UserError: nobody says, or `other` without a name and a link.
    """
    if id == "other" and not (name and link):
        raise UserError("the licence `other` without a name and a link", accepted="--license-name and --license-link")
    if id:
        return Licence(id, name, link)
    if name or link:
        raise UserError("the name or link of a licence without --license", accepted="--license other with both")
    known = next((licence for pattern, licence in KNOWN if re.fullmatch(pattern, base.lower())), None)
    if known is None:
        raise UserError(f"the licence of {base} is not known, and what is derived from it inherits it",
                        accepted="--license ID, an identifier of the Hub's such as openrail++ or apache-2.0",
                        remedy="see the base model's card")
    return Licence(known.id, known.name, known.link, base)
