"""Small stories about who is where, and who has what, with questions about them.

A story is simulated before it is told: events change a world, and each event has a sentence. So the answers are true by
construction, and a question may be about something that a later event has changed: the ball that Mia had is Tom's once
she has given it to him. To answer, a model must follow the entities; the most frequent place is wrong most of the time.

Answers are whole sentences. "The ball is" reminds the model of the last sentence about the ball, and then one more word
is enough; a bare "red" after "Answer:" would ask for two lookups in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from llmquiz.llm.data.corpus import words
from llmquiz.llm.data.corpus.document import CLOSE, OPEN, Document, dialog, document
from llmquiz.llm.data.corpus.words import Person, Word


@dataclass(slots=True)
class World:
    """What is the case at a moment of the story, and the sentences told so far."""

    lang: str
    rng: Random
    told: list[str] = field(default_factory=list)
    place: dict[Person, Word] = field(default_factory=dict)
    holder: dict[Word, Person] = field(default_factory=dict)
    kept_in: dict[Word, Word] = field(default_factory=dict)
    colour: dict[Word, Word] = field(default_factory=dict)
    feeling: dict[Person, Word] = field(default_factory=dict)

    def tell(self, english: list[str], chinese: list[str], **slots: Word | str) -> None:
        """Add one of these sentences, its slots filled in the language of the story."""
        template = self.rng.choice(english if self.lang == "en" else chinese)
        filled = {name: slot(self.lang) if isinstance(slot, Word) else slot for name, slot in slots.items()}
        sentence = template.format(**filled)
        self.told.append(sentence[0].upper() + sentence[1:])

    @property
    def text(self) -> str:
        return (" " if self.lang == "en" else "").join(self.told)

    def other_place(self, *taken: Word) -> Word:
        return self.rng.choice([place for place in words.PLACES if place not in taken])


def stories(rng: Random, lang: str) -> Document:
    """A story with one to three questions, as a text or as a dialog."""
    world = World(lang, rng)
    happen(world)
    asked = questions(world)
    rng.shuffle(asked)
    asked = asked[: rng.choice((1, 2, 3))]
    if rng.random() < 0.5:
        said, answer = asked[0]
        return dialog([(f"{world.text}\n{said}", answer), *asked[1:]], "story", lang)
    ask, reply = ("Question:", "Answer:") if lang == "en" else ("问：", "答：")
    gap = " " if lang == "en" else ""
    exam = [f"\n{ask}{gap}{said}\n{reply}{OPEN}{gap}{answer}{CLOSE}" for said, answer in asked]
    return document(world.text + "".join(exam), "story", lang)


def happen(world: World) -> None:
    """A beginning, a few events, an end."""
    rng = world.rng
    first, second = rng.sample(words.PEOPLE, 2)
    thing, other_thing = rng.sample(words.THINGS, 2)
    begin(world, first, thing)
    if rng.random() < 0.6:
        meet(world, first, second, other_thing)
        together = rng.sample([give, part, lose, swap, play], rng.choice((1, 2, 3)))
        for happens in sorted(together, key=lambda event: event in (part, lose)):  # nobody gives from afar
            happens(world, first, second, thing)
    else:
        for happens_alone in rng.sample([put_away, animal, rain, walk, cook], rng.choice((1, 2, 3))):
            happens_alone(world, first, thing)
    end(world, first)


def begin(world: World, who: Person, thing: Word) -> None:
    rng, colour, place = world.rng, world.rng.choice(words.COLOURS), world.other_place()
    world.place[who], world.colour[thing], world.holder[thing] = place, colour, who
    slots = {"time": rng.choice(words.TIMES), "who": who.name, "place": place, "thing": thing, "colour": colour}
    slots |= {"they": who.subject}
    world.tell(
        ["{time}, {who} went to the {place}.", "{time} {who} was in the {place}.", "{time}, {who} ran to the {place}."],
        ["{time}，{who}去了{place}。", "{time}，{who}在{place}里。", "{time}，{who}跑到了{place}。"],
        **slots,
    )
    world.tell(
        ["{they} had a {colour} {thing}.", "{who} carried a {colour} {thing}.", "{they} loved the {colour} {thing}."],
        ["{they}有一个{colour}的{thing}。", "{who}带着{colour}的{thing}。", "{they}很喜欢{colour}的{thing}。"],
        **slots,
    )


def meet(world: World, who: Person, friend: Person, thing: Word) -> None:
    colour = world.rng.choice([c for c in words.COLOURS if c not in world.colour.values()])
    world.place[friend] = world.place[who]
    slots = {"who": who.name, "friend": friend.name, "they": friend.subject, "thing": thing, "colour": colour}
    world.tell(
        ["there {who} met {friend}.", "{friend} was there too.", "soon {friend} came along."],
        ["{who}在那里遇见了{friend}。", "{friend}也在那里。", "不久{friend}也来了。"],
        **slots,
    )
    if world.rng.random() < 0.6:
        world.colour[thing], world.holder[thing] = colour, friend
        world.tell(
            ["{friend} had a {colour} {thing}.", "{they} showed a {colour} {thing}."],
            ["{friend}有一个{colour}的{thing}。", "{they}拿出一个{colour}的{thing}。"],
            **slots,
        )


def give(world: World, who: Person, friend: Person, thing: Word) -> None:
    if thing not in world.holder:
        return
    giver = world.holder[thing]
    taker = friend if giver is who else who
    world.holder[thing], feeling = taker, world.rng.choice(words.GOOD_FEELINGS)
    world.feeling[taker] = feeling
    slots = {"giver": giver.name, "taker": taker.name, "thing": thing, "they": taker.subject, "feeling": feeling}
    world.tell(
        ["{giver} gave the {thing} to {taker}.", "so {giver} gave the {thing} to {taker}."],
        ["{giver}把{thing}给了{taker}。", "于是{giver}把{thing}给了{taker}。"],
        **slots,
    )
    world.tell(
        ["{they} said thank you and was {feeling}.", "{taker} was very {feeling}."],
        ["{they}说了谢谢，心里很{feeling}。", "{taker}很{feeling}。"],
        **slots,
    )


def part(world: World, who: Person, friend: Person, thing: Word) -> None:
    """One of them leaves; the other stays."""
    leaver = world.rng.choice((who, friend))
    stayer = friend if leaver is who else who
    place = world.other_place(world.place[leaver])
    world.place[leaver] = place
    slots = {"leaver": leaver.name, "stayer": stayer.name, "place": place}
    world.tell(
        ["then {leaver} went to the {place}, but {stayer} stayed.", "{leaver} left for the {place}. {stayer} stayed."],
        ["然后{leaver}去了{place}，{stayer}留了下来。", "{leaver}离开去了{place}。{stayer}没有走。"],
        **slots,
    )


def lose(world: World, who: Person, friend: Person, thing: Word) -> None:
    """It is lost, and the friend finds it somewhere else and keeps it until they meet."""
    if thing not in world.holder:
        return
    owner = world.holder[thing]
    finder = friend if owner is who else who
    place, feeling = world.other_place(*world.place.values()), world.rng.choice(words.BAD_FEELINGS)
    world.place[finder], world.holder[thing], world.feeling[owner] = place, finder, feeling
    slots = {"owner": owner.name, "they": owner.subject, "thing": thing, "finder": finder.name, "place": place}
    world.tell(
        ["then {owner} lost the {thing} and was {feeling}.", "but {owner} lost the {thing}, and {they} was {feeling}."],
        ["后来{owner}把{thing}弄丢了，很{feeling}。", "可是{owner}弄丢了{thing}。{they}很{feeling}。"],
        feeling=feeling,
        **slots,
    )
    world.tell(
        [
            "{finder} went to the {place} and found the {thing}.",
            "{finder} looked in the {place} and found the {thing}.",
        ],
        ["{finder}去了{place}，找到了{thing}。", "{finder}在{place}里找到了{thing}。"],
        **slots,
    )


def swap(world: World, who: Person, friend: Person, thing: Word) -> None:
    """If both hold something, they swap."""
    mine = [t for t, holder in world.holder.items() if holder is who]
    theirs = [t for t, holder in world.holder.items() if holder is friend]
    if not mine or not theirs:
        return
    world.holder[mine[0]], world.holder[theirs[0]] = friend, who
    world.tell(
        ["they swapped: {who} took the {theirs} and {friend} took the {mine}."],
        ["他们交换了：{who}拿了{theirs}，{friend}拿了{mine}。"],
        who=who.name,
        friend=friend.name,
        mine=mine[0],
        theirs=theirs[0],
    )


def play(world: World, who: Person, friend: Person, thing: Word) -> None:
    """Time passes, nothing changes hands."""
    world.tell(
        ["they played with the {thing} for an hour.", "{who} and {friend} laughed a lot.", "they sat down and talked."],
        ["他们玩了一个小时的{thing}。", "{who}和{friend}开心地笑了。", "他们坐下来聊天。"],
        who=who.name,
        friend=friend.name,
        thing=thing,
    )


def put_away(world: World, who: Person, thing: Word) -> None:
    if world.holder.pop(thing, None) is None:
        return
    place = world.other_place(world.place[who])
    home = world.other_place(place)
    world.kept_in[thing], world.place[who] = place, home
    world.tell(
        ["{who} put the {thing} in the {place} and went to the {home}.",
         "{who} left the {thing} in the {place}, and then {they} went to the {home}."],
        ["{who}把{thing}放在{place}里，然后去了{home}。", "{who}把{thing}留在{place}里。后来{they}去了{home}。"],
        who=who.name, they=who.subject, thing=thing, place=place, home=home,
    )  # fmt: skip


def animal(world: World, who: Person, thing: Word) -> None:
    feeling = world.rng.choice(words.GOOD_FEELINGS)
    world.feeling[who] = feeling
    slots = {"who": who.name, "they": who.subject, "animal": world.rng.choice(words.ANIMALS)}
    world.tell(
        ["a little {animal} was hungry, so {who} gave it some {food}.", "{who} saw a {animal} and fed it {food}."],
        ["一只小{animal}饿了，{who}给了它一些{food}。", "{who}看见一只{animal}，喂它吃{food}。"],
        food=world.rng.choice(words.FOODS),
        **slots,
    )
    world.tell(
        ["the {animal} became a friend, and {who} was {feeling}.", "{they} was {feeling}."],
        ["{animal}成了朋友，{who}很{feeling}。", "{they}很{feeling}。"],
        feeling=feeling,
        **slots,
    )


def rain(world: World, who: Person, thing: Word) -> None:
    place = world.other_place(world.place[who])
    world.place[who] = place
    world.tell(
        ["it began to rain, so {who} ran to the {place}.", "the wind was strong, and {who} hid in the {place}."],
        ["下雨了，{who}跑到了{place}。", "风很大，{who}躲在{place}里。"],
        who=who.name,
        place=place,
    )


def walk(world: World, who: Person, thing: Word) -> None:
    place = world.other_place(world.place[who])
    world.place[who] = place
    world.tell(
        [
            "after that {who} walked to the {place}.",
            "then {they} went to the {place}.",
            "later {who} was in the {place}.",
        ],
        ["之后{who}走到了{place}。", "然后{they}去了{place}。", "后来{who}到了{place}。"],
        who=who.name,
        they=who.subject,
        place=place,
    )


def cook(world: World, who: Person, thing: Word) -> None:
    world.tell(
        ["{who} was hungry and ate {food}.", "{they} made {food} and sang a song.", "{who} bought some {food}."],
        ["{who}饿了，吃了{food}。", "{they}做了{food}，唱了一首歌。", "{who}买了一些{food}。"],
        who=who.name,
        they=who.subject,
        food=world.rng.choice(words.FOODS),
    )


def end(world: World, who: Person) -> None:
    if world.rng.random() < 0.4:
        world.tell(
            ["it was a good day.", "{who} will never forget it.", "at night {they} slept well.", "what a day!"],
            ["这真是美好的一天。", "{who}永远不会忘记。", "晚上{they}睡得很香。", "多么难忘的一天！"],
            who=who.name,
            they=who.subject,
        )


def questions(world: World) -> list[tuple[str, str]]:
    """What can be asked about the end of the story, with the true answers."""
    asked: list[tuple[Word, Word, str, str, str, str]] = []
    for who, place in world.place.items():
        asked.append((who.name, place, "Where is {0}?", "{0} is in the {1}.", "{0}在哪里？", "{0}在{1}里。"))
    for thing, who in world.holder.items():
        asked.append((thing, who.name, "Who has the {0}?", "The {0} is with {1}.", "{0}在谁那里？", "{0}在{1}那里。"))
    for thing, place in world.kept_in.items():
        asked.append((thing, place, "Where is the {0}?", "The {0} is in the {1}.", "{0}在哪里？", "{0}在{1}里。"))
    for thing, colour in world.colour.items():
        asked.append((thing, colour, "What colour is the {0}?", "The {0} is {1}.", "{0}是什么颜色的？", "{0}是{1}的。"))
    for who, feeling in world.feeling.items():
        asked.append((who.name, feeling, "How does {0} feel?", "{0} is {1}.", "{0}心情怎么样？", "{0}很{1}。"))
    lang = world.lang
    forms = [(x(lang), y(lang), *((q, a) if lang == "en" else (zh_q, zh_a))) for x, y, q, a, zh_q, zh_a in asked]
    return [(question.format(x, y), answer.format(x, y)) for x, y, question, answer in forms]
