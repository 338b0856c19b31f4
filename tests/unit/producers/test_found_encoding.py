import csv
import io
import time
from collections.abc import Sequence

import pytest

from producers.text.found_encoding import SAMPLE_BYTES, TextEncoding, UnsureEncoding, find_encoding

TEXTS = {
    "Hebrew": ["שלום וברכה לכולם", "דוד כהן מתל אביב", "הבית הגדול ליד הים",
        "אני אוהבת לקרוא ספרים", "תודה רבה על העזרה"],
    "Polish": ["Łukasz mieszka w Łodzi", "Zażółć gęślą jaźń", "Święta są już za miesiąc",
        "Żona kupiła świeże bułki", "Dziękuję"],
    "Czech": ["Příliš žluťoučký kůň", "Jiří Dvořák z Plzně", "Děkuji za vaši zprávu",
        "Škoda, že neprší", "Tomáš Černý"],
    "Hungarian": ["Árvíztűrő tükörfúrógép", "Köszönöm szépen", "Győr és Székesfehérvár",
        "Az őszi eső hűvös", "Kovács Ödön"],
    "Russian": ["Иван Петров", "Мария Сидорова из Москвы", "Спасибо за ваш заказ",
        "Доставка завтра утром", "Улица Ленина, дом 5"],
    "Ukrainian": ["Олена Шевченко", "Київ, вулиця Хрещатик", "Дякую за замовлення",
        "Їжак біжить лісом", "Євген Ґалаґан"],
    "Bulgarian": ["Георги Димитров", "София, бул. Витоша", "Благодаря за поръчката",
        "Доставката е утре", "Къщата е голяма"],
    "Greek": ["Γιώργος Παπαδόπουλος", "Αθήνα, οδός Ερμού", "Ευχαριστώ πολύ",
        "Η παράδοση είναι αύριο", "Καλημέρα σε όλους"],
    "Turkish": ["Ayşe Yılmaz", "Işıl Şahin, İstanbul", "Teşekkür ederim",
        "Güneş doğudan doğar", "Çağrı Öztürk, Muğla"],
    "Arabic": ["محمد أحمد من القاهرة", "شكرا جزيلا لكم", "البيت الكبير قرب البحر",
        "صباح الخير", "أحب قراءة الكتب"],
    "Lithuanian": ["Jonas Žukauskas", "Ačiū už užsakymą", "Šiaulių miestas",
        "Ąžuolas auga lėtai", "Gražina Šimkutė, Kėdainiai"],
    "Thai": ["สมชาย ใจดี", "กรุงเทพมหานคร", "ขอบคุณมากครับ",
        "วันนี้อากาศร้อนมาก", "ฉันชอบอ่านหนังสือ"],
    "Japanese": ["山田太郎さん", "東京都に住んでいます", "ありがとうございます",
        "明日お届けします", "カタカナとひらがな"],
    "Chinese": ["北京市朝阳区建国路", "非常感谢您的订单", "明天早上送货",
        "他们喜欢看书", "我住在上海的一个小区"],
    "Taiwanese": ["臺北市信義區", "非常感謝您的訂單", "明天早上送貨",
        "他們喜歡看書", "我住在臺灣的一個小鎮"],
    "Korean": ["서울특별시 강남구", "주문해 주셔서 감사합니다", "내일 아침에 배송됩니다",
        "안녕하세요 세계", "책 읽는 것을 좋아합니다"],
    "German": ["Jürgen Müller", "Schöne Grüße aus Köln", "Größe und Maße",
        "Käthe Weiß", "Über den Flüssen"],
    "French": ["François Lefèvre", "Où êtes-vous allés ?", "Très bien, merci",
        "Élodie Noël", "Le café est à côté"],
    "Spanish": ["José García Muñoz", "¿Dónde está el niño?", "Muchas gracias, señor",
        "María López", "Córdoba y Málaga"],
    "Portuguese": ["João da Conceição", "Não há informação", "São Paulo é uma região",
        "Obrigado pela atenção", "Inês Gonçalves"],
    "Swedish": ["Åsa Öberg från Malmö", "Tack så mycket", "Räksmörgås på Södermalm",
        "Göran Sjöström", "Hälsningar från Västerås"],
}  # fmt: skip
ENCODINGS = {
    ("Hebrew",): ["cp1255", "iso8859-8"],
    ("Polish", "Czech", "Hungarian"): ["cp1250", "iso8859-2", "cp852"],
    ("Russian",): ["cp1251", "koi8-r", "cp866", "iso8859-5"],
    ("Ukrainian",): ["cp1251", "koi8-u"],
    ("Bulgarian",): ["cp1251", "iso8859-5"],
    ("Greek",): ["cp1253", "iso8859-7"],
    ("Turkish",): ["cp1254", "iso8859-9"],
    ("Arabic",): ["cp1256", "iso8859-6"],
    ("Lithuanian",): ["cp1257", "iso8859-13"],
    ("Thai",): ["cp874", "tis-620"],
    ("Japanese",): ["cp932", "shift_jis", "euc_jp", "iso2022_jp"],
    ("Chinese",): ["gb18030", "gbk", "gb2312"],
    ("Taiwanese",): ["big5"],
    ("Korean",): ["cp949", "euc_kr", "iso2022_kr"],
    ("German", "French", "Spanish", "Portuguese", "Swedish"): ["cp1252", "latin-1", "iso8859-15", "mac-roman", "cp850"],
    tuple(TEXTS): ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
}
CASES = [
    (language, encoding)
    for languages, encodings in ENCODINGS.items()
    for language in languages
    for encoding in encodings
]


def rows(texts: Sequence[str]) -> str:
    """An ordinary table: most of it is ASCII."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["id", "email", "signed_up", "note"])
    for number, text in enumerate(texts, start=1):
        writer.writerow([number, f"customer{number}@example.org", f"2024-03-{number:02d}", text])
    return table.getvalue()


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_ordinary_rows_in_any_language_and_encoding_are_read_as_they_were_written(language: str, encoding: str) -> None:
    table = rows(TEXTS[language])
    data = table.encode(encoding)
    assert data.decode(find_encoding(data).name).removeprefix("\ufeff") == table


@pytest.mark.parametrize(
    "text",
    ["Zoë", "José", "Müller", "café", "Ångström", "Straße", "PEÑA", "Søren", "it’s", "“so”", "1990–1995", "£5", "€12"],
)
def test_a_single_accent_or_sign_in_a_western_file_is_read(text: str) -> None:
    table = rows(["nothing special", text, "and so on"])
    assert table.encode("cp1252").decode(find_encoding(table.encode("cp1252")).name) == table


@pytest.mark.parametrize("text", ["1\xa0234,50", "30°C", "30 °C", "5µg", "20m²", "½", "©2024", "Nº", "don’t", "12 €"])
def test_a_sum_of_money_or_a_measure_is_no_letter_of_another_language(text: str) -> None:
    table = rows(["nothing special", text, "and so on"])
    assert table.encode("cp1252").decode(find_encoding(table.encode("cp1252")).name) == table


def test_an_encoding_comes_with_its_origin_and_how_sure_it_is() -> None:
    polish = rows(TEXTS["Polish"])
    assert find_encoding(b"id,name\n1,Smith\n") == TextEncoding("utf-8", "content")
    assert find_encoding(b"") == TextEncoding("utf-8", "content")
    assert find_encoding(polish.encode("utf-8-sig")) == TextEncoding("utf-8", "mark")
    assert find_encoding(polish.encode("cp1250"), "latin-1") == TextEncoding("iso8859-1", "setting")
    found = find_encoding(polish.encode("cp1250"))
    assert (found.name, found.by) == ("cp1250", "guess")
    assert 0.9 <= found.sure < 1
    assert str(found).startswith("cp1250 (a guess, 9")


def test_a_text_of_ambiguous_encoding_is_refused_with_both_readings_and_the_setting() -> None:
    data = rows(["H\x8ckan"]).encode("latin-1")
    with pytest.raises(UnsureEncoding, match=r"mac-roman reads 'Håkan', cp850 reads 'Hîkan'; set `encoding`"):
        find_encoding(data)


@pytest.mark.parametrize("data", [bytes(range(128, 256)) * 50, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20])
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(UnsureEncoding, match="set `encoding`"):
        find_encoding(data)


def test_a_few_bad_lines_do_not_turn_utf_8_into_something_else() -> None:
    found = find_encoding("1,Müller\n2,Łódź\n".encode() + b"3,\xff\xfe\n")
    assert found == TextEncoding("utf-8", "content", 0.667)


@pytest.mark.parametrize(
    ("language", "encoding"), [("Chinese", "gb18030"), ("Japanese", "cp932"), ("German", "cp1252")]
)
def test_one_damaged_line_does_not_rule_an_encoding_out(language: str, encoding: str) -> None:
    lines = rows(TEXTS[language] * 4).encode(encoding).splitlines(keepends=True)
    lines[7] = lines[7].rstrip() + (b"\x81" if encoding == "cp1252" else b"\xb0") + b"\r\n"
    assert find_encoding(b"".join(lines)).name in {encoding, "shift_jis"}


def test_a_character_cut_by_the_end_of_the_sample_does_not_count() -> None:
    text = ("x" * 98 + "\n") * (SAMPLE_BYTES // 99 + 1)
    sample = text.encode()[: SAMPLE_BYTES - 1] + "é".encode()[:1]
    assert find_encoding(sample).name == "utf-8"


@pytest.mark.parametrize(
    ("language", "written", "served"),
    [
        ("Hebrew", "cp1255", "windows-1255"),
        ("Swedish", "mac-roman", "macintosh"),
        ("Polish", "cp852", "cp852"),
        ("Chinese", "gb18030", "gb2312"),
        ("German", "cp1252", "ISO-8859-1"),
        ("French", "utf-8", "utf-8"),
    ],
)
def test_the_charset_that_a_server_gives_is_taken(language: str, written: str, served: str) -> None:
    table = rows(TEXTS[language][:1])
    assert table.encode(written).decode(find_encoding(table.encode(written), served=served).name) == table


def test_a_byte_order_mark_and_the_setting_know_better_than_a_server() -> None:
    data = rows(TEXTS["Polish"]).encode("utf-16")
    assert find_encoding(data, served="iso-8859-1") == TextEncoding("utf-16-le", "mark")
    assert find_encoding(b"a\n\xc6\n", "cp1257", "iso-8859-1") == TextEncoding("cp1257", "setting")


def test_utf_8_that_a_server_calls_latin_1_as_it_calls_everything_is_utf_8() -> None:
    assert find_encoding("1,Müller\n".encode(), served="ISO-8859-1") == TextEncoding("utf-8", "content")


@pytest.mark.parametrize(("written", "served"), [("cp1251", "utf-8"), ("cp1251", "us-ascii"), ("cp1252", "euc-jp")])
def test_a_charset_that_the_text_is_not_in_is_refused(written: str, served: str) -> None:
    text = rows(TEXTS["Russian" if written == "cp1251" else "German"])
    with pytest.raises(UnsureEncoding, match=f"served as {served}, and most of its lines are not"):
        find_encoding(text.encode(written), served=served)


def test_an_unknown_charset_of_a_server_is_ignored() -> None:
    assert find_encoding(rows(TEXTS["Greek"]).encode("cp1253"), served="punycode").by == "guess"


def test_a_large_file_is_judged_by_a_bounded_part_of_it() -> None:
    data = (rows([f"{text} " * 20 for text in TEXTS["Russian"]]) * 200).encode("cp1251")[:SAMPLE_BYTES]
    started = time.process_time()
    assert find_encoding(data).name == "cp1251"
    assert time.process_time() - started < 10
