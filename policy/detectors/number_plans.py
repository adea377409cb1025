"""Who gives out which numbers: ranges of card issuers, lengths of IBANs by country, country codes of telephones.

Plain tables and the one function that reads ranges. Called by `policy.detectors.numbers`.
"""

from __future__ import annotations

import bisect

# First and last of the leading six digits, and the lengths that are really given out (ISO/IEC 7812 and the issuers' own
# publications). Longer ones that are only reserved are left out: numbers that count something are of that length.
_ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (400000, 499999, frozenset({13, 16, 19})),  # Visa
    (510000, 559999, frozenset({16})),  # Mastercard
    (222100, 272099, frozenset({16})),  # Mastercard
    (340000, 349999, frozenset({15})),  # American Express
    (370000, 379999, frozenset({15})),  # American Express
    (300000, 305999, frozenset({14, 16})),  # Diners Club
    (309500, 309599, frozenset({14, 16})),  # Diners Club
    (360000, 369999, frozenset({14, 16})),  # Diners Club
    (380000, 399999, frozenset({14, 16})),  # Diners Club
    (352800, 358999, frozenset({16})),  # JCB
    (601100, 601199, frozenset({16})),  # Discover
    (644000, 659999, frozenset({16})),  # Discover, RuPay
    (620000, 629999, frozenset({16, 17, 18, 19})),  # UnionPay
    (810000, 817199, frozenset({16})),  # UnionPay
    (220000, 220499, frozenset({16})),  # Mir
    (508500, 508999, frozenset({16})),  # RuPay
    (606900, 608999, frozenset({16})),  # RuPay
    (501800, 501899, frozenset(range(12, 20))),  # Maestro
    (502000, 502099, frozenset(range(12, 20))),
    (503800, 503899, frozenset(range(12, 20))),
    (589300, 589399, frozenset(range(12, 20))),
    (630400, 630499, frozenset(range(12, 20))),
    (675900, 676399, frozenset(range(12, 20))),
    (636000, 636999, frozenset({16})),  # InterPayment, Elo
)


_SORTED = sorted(_ISSUERS, key=lambda issuer: issuer[0])
_FIRSTS = [first for first, _, _ in _SORTED]


def is_issued(digits: bytes) -> bool:
    """Does some issuer give out card numbers with this beginning and length? The ranges do not overlap."""
    leading = int(digits[:6])
    place = bisect.bisect_right(_FIRSTS, leading) - 1
    if place < 0:
        return False
    _, last, lengths = _SORTED[place]
    return leading <= last and len(digits) in lengths


# ISO 13616, the registry of SWIFT.
_IBANS = """
    AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22
    DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28
    HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25
    MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29
    RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29
    VA:22 VG:24 XK:20 YE:30
"""

IBAN_LENGTHS: dict[bytes, int] = {
    country.encode(): int(length) for country, length in (entry.split(":") for entry in _IBANS.split())
}

# ITU-T E.164, assigned country codes but 1, which has a plan of its own.
_COUNTRIES = """
    7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81
    82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232
    233 234 235 236 237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258
    260 261 262 263 264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370
    371 372 373 374 375 376 377 378 379 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505
    506 507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682
    683 685 686 687 688 689 690 691 692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961
    962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
"""

CALLING_CODES: frozenset[bytes] = frozenset(_COUNTRIES.encode().split())
