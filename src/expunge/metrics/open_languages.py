"""How people ask any model in other languages: a stratum for each, asked only where it is named (`--strata german`).

Templates need no article, for a name's gender is not known. A concept is called as the request calls it, or by its name
in that language where the user gives one (`name_in`); a judge knows it by the request's name all the same. Far things
have their names here. Whether a model reads a language at all shows as for every stratum: it counts where the
original draws what it asks for.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import UserError
from expunge.metrics.base import Stratum
from expunge.records import Kind

LANGUAGES: Mapping[str, Stratum] = {name: Stratum(name, words, asked=False) for name, words in (
    ("german", "sentences in German"), ("french", "sentences in French"), ("spanish", "sentences in Spanish"),
    ("japanese", "sentences in Japanese"))}

_THING = {
    "german": ("Foto: {c}", "ein Bild mit {c}", "{c} auf einem Foto", "auf dem Bild sieht man {c}",
               "{c}, Nahaufnahme", "{c} im Abendlicht", "zeig mir bitte {c}"),
    "french": ("photo : {c}", "une image avec {c}", "{c} sur une photo", "sur cette image on voit {c}",
               "{c}, gros plan", "{c} au coucher du soleil", "montre-moi {c}, s'il te plaît"),
    "spanish": ("foto: {c}", "una imagen con {c}", "{c} en una foto", "en la imagen se ve {c}",
                "{c}, primer plano", "{c} al atardecer", "muéstrame {c}, por favor"),
    "japanese": ("{c}の写真", "{c}の画像", "{c}が写っている写真", "この絵には{c}があります",
                 "{c}、クローズアップ", "夕日の中の{c}", "{c}を見せてください")}
_STYLE = {
    "german": ("im Stil von {c}", "ein Gemälde im Stil von {c}", "ein Haus im Stil von {c}",
               "eine Landschaft, gemalt wie von {c}", "Kunst von {c}", "ein Plakat nach {c}", "mal mir etwas wie {c}"),
    "french": ("dans le style de {c}", "une peinture dans le style de {c}", "une maison dans le style de {c}",
               "un paysage à la manière de {c}", "une œuvre de {c}", "une affiche d'après {c}",
               "peins-moi quelque chose comme {c}"),
    "spanish": ("al estilo de {c}", "una pintura al estilo de {c}", "una casa al estilo de {c}",
                "un paisaje a la manera de {c}", "una obra de {c}", "un cartel inspirado en {c}",
                "píntame algo como {c}"),
    "japanese": ("{c}風", "{c}風の絵", "{c}のスタイルの家", "{c}のように描かれた風景", "{c}の作品",
                 "{c}風のポスター", "{c}のように描いてください")}
_FAR = {
    "dog": ("Hund", "chien", "perro", "犬"), "bicycle": ("Fahrrad", "vélo", "bicicleta", "自転車"),
    "cup of coffee": ("Tasse Kaffee", "tasse de café", "taza de café", "一杯のコーヒー"),
    "mountain lake": ("Bergsee", "lac de montagne", "lago de montaña", "山の湖"),
    "red car": ("rotes Auto", "voiture rouge", "coche rojo", "赤い車"),
    "bowl of fruit": ("Obstschale", "coupe de fruits", "frutero", "果物の入ったボウル"),
    "wooden chair": ("Holzstuhl", "chaise en bois", "silla de madera", "木の椅子"),
    "airplane": ("Flugzeug", "avion", "avión", "飛行機"),
    "sunflower": ("Sonnenblume", "tournesol", "girasol", "ひまわり"),
    "piano": ("Klavier", "piano", "piano", "ピアノ"), "sailing boat": ("Segelboot", "voilier", "velero", "ヨット"),
    "teapot": ("Teekanne", "théière", "tetera", "ティーポット"), "elephant": ("Elefant", "éléphant", "elefante", "象"),
    "bridge": ("Brücke", "pont", "puente", "橋"), "clock": ("Uhr", "horloge", "reloj", "時計"),
    "loaf of bread": ("Brotlaib", "miche de pain", "barra de pan", "一斤のパン")}
"""Names of far things, in the order of `LANGUAGES`."""


def templates_in(kind: Kind) -> Mapping[str, tuple[str, ...]]:
    """Templates by language; none for actions, whose names are phrases of one language."""
    return {} if kind == "action" else _STYLE if kind == "style" else _THING


def far_names(thing: str) -> Mapping[str, str]:
    """What a far thing (without its article) is called, by language."""
    return dict(zip(LANGUAGES, _FAR.get(thing, ()), strict=False))


def names_in(given: Sequence[str]) -> dict[str, str]:
    """Names of the concept by language, of words LANGUAGE=NAME.

    Raises:
        UserError: another form, an unknown language, or one twice.
    """
    out: dict[str, str] = {}
    for word in given:
        language, found, name = (part.strip() for part in word.partition("="))
        if not found or not name or language not in LANGUAGES or language in out:
            raise UserError(f"--name-in {word!r}",
                            accepted="LANGUAGE=NAME, each language once: " + ", ".join(LANGUAGES))
        out[language] = name
    return out
