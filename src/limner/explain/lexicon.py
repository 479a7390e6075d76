"""The plain words a sentence of a written portrait may be made of, in English and Chinese.

Whatever is in no list here and in no cited slot cannot be grounded, so the lists hold grammar,
everyday verbs and the words of direction, and nothing that tells one user from another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
Sign = tuple[str, int]
"""An aspect and which way: ("level", 1) is more than others, ("trend", -1) is falling."""

GLUE_EN = frozenset(
    """a about across active activity adds all almost alone along also among amount an and are as
    at average basket baskets be because been between big both bought but buy buyer buying buys by
    can choice choices choose chooses chosen come comes compared customer data day days did do does
    each especially estimate estimated even event events every everybody everyone far few figure
    first for from gives go goes habit habits had has have here hours how in interest interested
    interests is it item items its itself kind kinds known last lately line list listed lists look
    looks made mainly make makes many mark mean means model month months mostly much near nearest
    next now of on one's only or other others out over overall own part parts past pay paying pays
    people person pick picked picks place point portrait present product products profile purchase
    purchased purchases quite range rate rather record records recorded reach same saw say says see
    seen set share shop shopper shopping shops show shows since so some spend spending spends spent
    stand stands state stated states still such take takes tend tends than that the their them
    themselves then there these they thing things this those time times to together total tell
    tells trip trips turn turned turns type types under user users usual usually visit visits was
    way week weeks well were what when where which while who whole with within year years yet
    in recent someone somewhat score scored said here's clear clearly keep keeps find finds
    using used uses going went write writes written wrote""".split()
)  # fmt: skip

GLUE_ZH = tuple(
    """该用户 这位用户 这位 用户 顾客 其 他们 他 她 自述 自己 说 表示 是 为 在 的 了 着 过 和
    与 及 或 以及 也 都 就 还 又 并 且 而 但 以 按 从 到 由 对 向 于 中 里 内 上 下 有 共 共有
    总 总共 总计 累计 合计 达 达到 约 大约 左右 每 每次 次 每月 每周 每天 个 件 笔 项 种 类 名
    目前 现在 如今 近来 最近 近期 近几周 这几周 几周 以来 之前 以前 前 后 之间 期间 时 时间
    时段 小时 分钟 天 周 月 年 日 点 上次 最后 一次 首次 第一次 距今 已 曾 曾经 会 能 可 多在
    主要 主要在 集中在 集中 占 占比 比例 份额 其中 包括 例如 如 像 选择 所选 购买 买 购物 消费
    花费 支出 花 支付 付 付款 浏览 查看 看 活跃 活动 行为 记录 事件 显示 表明 说明 来自 根据
    依据 基于 兴趣 关注 倾向 通常 一般 平时 往往 相比 比 其他 其它 他人 别人 全体 所有 全部
    大家 平均 水平 同类 同样 商品 物品 产品 东西 方面 程度 部分 整体 总体 长期 短期 变化 差异
    不同 相差 模型 估计 推断 判断 推测 属于 认为 可能 可能性 概率 一类 群体 类型 分数 排名 位列
    位于 处于 一个 一位 一些 这 那 此 这些 那些 同时 另外 此外 尤其 特别 而言 来说 是常见 常见
    通常的 的是 节奏 频率 速度 至 写 写的 内容 语气 接近 最接近 像这样 什么 做 所做""".split()
)

DIRECTIONS: Mapping[str, Sign] = {
    **dict.fromkeys(
        "more above higher high top dearer larger bigger greater 高于 多于 更多 更高 更贵 较高 "
        "较多 大于 多付 高档 最高档".split(), ("level", 1)),
    **dict.fromkeys(
        "less below lower low fewer cheaper smaller 低于 少于 更少 更低 更便宜 较低 较少 "
        "小于 少付 低档"
        .split(), ("level", -1)),
    **dict.fromkeys(
        "rising rises rise growing grows grow increasing increases increased up 上升 增加 增长 增多"
        .split(), ("trend", 1)),
    **dict.fromkeys(
        "falling falls fall declining declines decreasing decreases decreased fading down 下降 "
        "减少 减弱".split(), ("trend", -1)),
    **dict.fromkeys(
        "like likes liked liking love loves enjoy enjoys prefer prefers fond positive favourite "
        "favorite 喜欢 偏爱 喜爱 积极".split(), ("opinion", 1)),
    **dict.fromkeys(
        "dislike dislikes disliked avoid avoids negative hate hates 不喜欢 讨厌 消极".split(),
        ("opinion", -1)),
    **dict.fromkeys(["recently", "not long ago", "不久前"], ("recency", 1)),
    **dict.fromkeys(["long ago", "inactive", "很久以前", "很久"], ("recency", -1)),
    **dict.fromkeys(["often", "frequently", "regularly", "frequent", "经常", "频繁"],
                    ("often", 1)),
    **dict.fromkeys(["seldom", "rarely", "occasionally", "now and then", "很少", "偶尔"],
                    ("often", -1)),
}  # fmt: skip
"""Words that say which way, and what they say."""

CHINESE: Mapping[str, str] = {
    "categories": "类别", "departments": "部门", "brands": "品牌", "kinds of product": "产品种类",
    "spend": "消费额", "spend a month": "每月消费额", "average price": "平均价格",
    "price level": "价格水平", "discount share": "折扣比例", "coupon use": "优惠券使用率",
    "store brands": "自有品牌占比", "last purchase": "上次购买", "last seen": "上次活动",
    "how often they buy": "购买频率", "shopping trips": "购物次数", "basket size": "每篮件数",
    "basket value": "每篮金额", "time of day": "活动时段", "days of the week": "活动星期",
    "variety": "多样性", "segment": "客群", "tier": "价值层级", "people alike": "相似人群",
    "likes and dislikes": "好恶", "what they do": "行为", "age": "年龄", "gender": "性别",
    "household": "家庭", "income": "收入", "occupation": "职业", "city": "城市",
    "Monday": "周一", "Tuesday": "周二", "Wednesday": "周三", "Thursday": "周四",
    "Friday": "周五", "Saturday": "周六", "Sunday": "周日",
    "champions": "最佳客户", "loyal": "忠诚客户", "potential loyal": "潜在忠诚客户",
    "new": "新客户", "promising": "有潜力的客户", "needs attention": "需要关注的客户",
    "about to sleep": "即将沉睡的客户", "cannot lose": "不可流失的客户",
    "at risk": "有流失风险的客户",
    "hibernating": "沉睡客户", "top": "顶级", "high": "较高级", "middle": "中级",
    "purchase": "购买", "view": "浏览", "click": "点击", "add_to_cart": "加入购物车",
}  # fmt: skip
"""What Limner's own words are called in Chinese; whatever a shop names stays as it is."""


_DIRECTED = re.compile(
    "|".join(
        rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word)
        for word in sorted(DIRECTIONS, key=lambda word: -len(word))
    )
)


def directions_in(text: str) -> tuple[Sign, ...]:
    """Which ways a text in lower case goes, in order.

    >>> directions_in("often, and not long ago"), directions_in("不喜欢")
    ((('often', 1), ('recency', 1)), (('opinion', -1),))
    """
    return tuple(DIRECTIONS[match[0]] for match in _DIRECTED.finditer(text))


def without_directions(text: str) -> str:
    """The text with spaces where words of direction were."""
    return _DIRECTED.sub(lambda match: " " * len(match[0]), text)


def said_in(language: Language, word: str) -> str:
    """A word of Limner's in a language; a foreign one as it is.

    >>> said_in("zh", "brands"), said_in("en", "brands"), said_in("zh", "Oma")
    ('品牌', 'brands', 'Oma')
    """
    return CHINESE.get(word, word) if language == "zh" else word
