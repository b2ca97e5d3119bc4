"""A small shop for coffee gear: products, priced carts, orders."""
