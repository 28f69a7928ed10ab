"""The small world of the corpus: people, things, places and what they are called in English and Chinese.

A world this small is the point. A model of three million parameters cannot know much, but whatever it knows it can use
in every combination: 10 colours times 24 things times 14 places are more stories than it will ever read, so that it
must learn to read them instead of learning them.
"""

from __future__ import annotations

from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Word(NamedTuple):
    """One notion in both languages."""

    en: str
    zh: str

    def __call__(self, lang: str) -> str:
        return self.en if lang == "en" else self.zh


class Person(NamedTuple):
    """A name, with the pronouns that go with it."""

    name: Word
    subject: Word
    possessive: Word


_SHE, _HER = Word("she", "她"), Word("her", "她的")
_HE, _HIS = Word("he", "他"), Word("his", "他的")


def parse(text: str) -> tuple[Word, ...]:
    """Words from `cat=猫, dog=狗`."""
    return tuple(Word(*pair.split("=")) for pair in text.replace("\n", " ").split(", "))


WOMEN = parse("Mia=小雅, Anna=小红, Lily=莉莉, Rosa=小兰, Nina=妮娜, Emma=小玉, Zoe=小云, Jane=小珍")
MEN = parse("Tom=小明, Ben=小强, Sam=小山, Leo=乐乐, Max=大伟, Jack=小杰, Paul=小宝, Finn=小龙")
PEOPLE = tuple(Person(name, _SHE, _HER) for name in WOMEN) + tuple(Person(name, _HE, _HIS) for name in MEN)

THINGS = parse(
    "ball=球, book=书, key=钥匙, cup=杯子, hat=帽子, kite=风筝, drum=鼓, box=盒子, lamp=灯, bag=包, pen=笔, coat=外套, "
    "clock=钟, doll=娃娃, bell=铃铛, rope=绳子, map=地图, spoon=勺子, boat=小船, ring=戒指, scarf=围巾, brush=刷子, "
    "flute=笛子, basket=篮子"
)
COLOURS = parse(
    "red=红色, blue=蓝色, green=绿色, yellow=黄色, white=白色, black=黑色, brown=棕色, "
    "pink=粉色, purple=紫色, grey=灰色"
)
PLACES = parse(
    "park=公园, garden=花园, kitchen=厨房, school=学校, library=图书馆, market=市场, forest=森林, barn=谷仓, "
    "museum=博物馆, station=车站, shop=商店, castle=城堡, yard=院子, cave=山洞"
)
ANIMALS = parse("cat=猫, dog=狗, bird=鸟, rabbit=兔子, horse=马, fox=狐狸, duck=鸭子, mouse=老鼠, bear=熊, frog=青蛙")
FOODS = parse(
    "apples=苹果, bread=面包, rice=米饭, soup=汤, cake=蛋糕, pears=梨, noodles=面条, cheese=奶酪, nuts=坚果, eggs=鸡蛋"
)
TIMES = parse(
    "One sunny morning=一个晴朗的早晨, One cold day=寒冷的一天, One warm evening=一个温暖的傍晚, "
    "After school=放学后, Last week=上个星期, On a rainy day=一个下雨天, In spring=春天, Early in the day=清晨"
)
GOOD_FEELINGS = parse("happy=高兴, proud=自豪, calm=平静, excited=兴奋")
BAD_FEELINGS = parse("sad=难过, tired=疲倦, worried=担心, angry=生气")
