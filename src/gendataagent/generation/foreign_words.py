"""Ordinary words of other languages: function words, yes and no, numbers, plain colours.

Not listed are those that name a thing in English captions, such as the German "die".
"""

from __future__ import annotations

FOREIGN_WORDS = (
    # German
    "der das den dem des ein eine einen einem einer und oder nicht kein keine mit ohne "
    "auf unter über vor hinter neben zwischen bei zu im ist sind sein seine ihr wir ja "
    "nein andere anderer anderes sonstige sonstiges unbekannt eins zwei drei vier fünf "
    "sechs sieben acht neun zehn zwölf blau grün gelb schwarz weiß grau braun links "
    "rechts oben unten groß klein alle alles nichts "
    # French
    "le la les un une des du de et ou ne pas avec sans sur sous dans par pour en au aux "
    "ce cet cette ces sa ses il elle est sont oui non autre autres inconnu deux trois "
    "quatre cinq sept huit neuf dix rouge bleu vert jaune noir blanc gris gauche droite "
    "grand petit tout rien "
    # Spanish, Portuguese, Italian
    "el los las una unos unas y o u con sin sobre bajo entre por para es sí si otro otra "
    "otros otras desconocido uno dos tres cuatro cinco seis siete ocho nueve diez rojo "
    "azul verde amarillo negro blanco gris izquierda derecha grande pequeño todo nada os "
    "as um uma e com sem em no na do da dos sim não outro outra outros outras dois três "
    "quatro sete oito nove dez vermelho amarelo preto branco lo gli il i di del della con "
    "senza su sotto tra fra è sì altro altra altri altre due tre quattro cinque sei sette "
    "otto nove dieci rosso verde giallo nero bianco grigio tutto niente sinistra destra "
    # Dutch, Scandinavian, Polish, Turkish
    "het een en of niet geen met zonder op onder nee anders andere overig twee vijf zes "
    "acht negen tien rood blauw groen geel zwart wit och eller inte utan på ja nej annan "
    "annat två fyra fem sju åtta nio tio röd grön gul svart vit ikke uden til og nie tak "
    "inne inny na z w do czerwony zielony czarny biały jeden dwa trzy cztery pięć ve veya "
    "ile evet hayır diğer bir iki üç dört beş kırmızı mavi yeşil siyah beyaz "
    # Russian, Ukrainian
    "и в на с не нет да без под над за от до по из для это он она они другое другие "
    "другой прочее неизвестно один два три четыре пять шесть семь восемь девять десять "
    "красный синий зелёный зеленый жёлтый желтый чёрный черный белый левый правый большой "
    "маленький так ні "
    # Arabic, Hebrew, Hindi
    "و في من على إلى لا نعم أخرى اخرى آخر غير مع بدون واحد اثنان ثلاثة כן לא אחר אחרים של "
    "את עם हाँ हां नहीं अन्य और का की के में पर एक दो तीन "
    # Chinese
    "是 否 不 无 無 有 没 没有 沒有 的 了 在 和 与 與 或 其他 其它 未知 正常 异常 異常 好 "
    "坏 壞 真 假 大 小 中 左 右 上 下 前 后 後 里 外 内 多 少 新 旧 舊 黑 白 红 紅 绿 綠 "
    "蓝 藍 黄 黃 灰 个 個 只 隻 两 兩 对 錯 错 对错 高 低 长 短 "
    # Japanese, Korean
    "나 다 라 마 바 아 자 카 타 하 "
    "はい いいえ その他 不明 赤 青 緑 黒 無し なし あり 有り する した です ます 이 가 은 "
    "는 을 를 의 에 와 과 도 예 네 아니오 아니요 기타 없음 있음 정상 비정상 하나 둘 셋 큰 "
    "작은 "
)
