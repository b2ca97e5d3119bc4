"""What the shop sells. Prices are integers in euro cents."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    id: str
    name: str
    price_cents: int


PRODUCTS = {
    product.id: product
    for product in (
        Product("espresso-cup", "Espresso cup", 890),
        Product("cappuccino-cup", "Cappuccino cup", 1190),
        Product("milk-jug", "Milk jug, 350 ml", 2450),
        Product("tamper", "Tamper, 58 mm", 3490),
        Product("knock-box", "Knock box", 2990),
        Product("scale", "Brewing scale", 4900),
        Product("hand-grinder", "Hand grinder", 8900),
        Product("kettle", "Gooseneck kettle", 6900),
        Product("dripper", "Ceramic dripper", 2190),
        Product("filters", "Paper filters, 100", 550),
        Product("beans-250", "House espresso, 250 g", 950),
        Product("beans-1000", "House espresso, 1 kg", 3200),
    )
}
