"""The contract as a small pure program: what apps and the clock do to baskets and stock. It knows nothing of the service's code.

Transfers, guests and comfort settings are in `devices`, the shop's reports, its staff and the purge in `staff_model`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.model_based.state import LIFETIME, REFUSED, Basket, Item, Key, Refused, Session, State

HOLD = 30 * 60
GRACE = 24 * 3600
CART_LIMIT = 3
SAVED_LIMIT = 2


class Shop(State):
    """What a user's app calls, and what is due by the clock."""

    # --- Lists ------------------------------------------------------------------

    def place(self, key: Key, product: str, count: int) -> None:
        if count == -1:
            return self.remove(key, product)
        self._refuse_unknown(key, product)
        basket = self.baskets.get(key) or Basket(expires=self.now + LIFETIME)
        gone = not self.present(key)
        cart, saved = ({}, {}) if gone else (basket.cart, basket.saved)
        self._refuse_full(cart, saved, product, count)
        if key in self.baskets and gone and not basket.hidden:
            self._hide(basket)
        self.baskets[key] = basket
        self._placed(basket, product, count)
        return None

    def _refuse_unknown(self, key: Key, product: str) -> None:
        """A sandbox has products that no other partner has, and no others."""
        known = self.products.get(product)
        if known is None or not known.listed or known.sandbox != (key[0] in self.sandboxes):
            raise Refused("product_unknown")

    def change(self, key: Key, product: str, count: int | None) -> None:
        if count == -1:
            return self.remove(key, product)
        basket = self._with_item(key, product)
        if count is not None:
            self._refuse_full(basket.cart, basket.saved, product, count)
            self._placed(basket, product, count)
        return None

    def remove(self, key: Key, product: str) -> None:
        basket = self._with_item(key, product)
        basket.cart.pop(product, None)
        basket.saved.pop(product, None)
        self._changed(basket)

    def delete(self, key: Key) -> None:
        if not self.present(key):
            raise Refused("basket_not_found")
        basket = self.baskets[key]
        self._end_lapsed_or_refuse(basket)
        if not self.present(key):
            raise Refused("basket_not_found")
        self._hide(basket)

    def _with_item(self, key: Key, product: str) -> Basket:
        if not self.present(key) or product not in self.baskets[key].cart | self.baskets[key].saved:
            raise Refused("product_not_in_basket")
        return self.baskets[key]

    @staticmethod
    def _refuse_full(cart: Mapping[str, Item], saved: Mapping[str, Item], product: str, count: int) -> None:
        if count > 0 and product not in cart and len(cart) >= CART_LIMIT:
            raise Refused("cart_full")
        if count == 0 and product not in saved and len(saved) >= SAVED_LIMIT:
            raise Refused("saved_full")

    def _placed(self, basket: Basket, product: str, count: int) -> None:
        there = basket.cart.get(product)
        if count > 0 and there:
            if there.count == count and not basket.hidden:
                return
            there.count = count
        elif count > 0:
            basket.saved.pop(product, None)
            basket.cart[product] = self._appended(basket, count)
        elif product not in basket.saved:
            basket.cart.pop(product, None)
            basket.saved[product] = self._appended(basket, there.count if there else 1)
        elif not basket.hidden:
            return
        self._changed(basket)
        basket.hidden = False

    @staticmethod
    def _appended(basket: Basket, count: int) -> Item:
        basket.places += 1
        return Item(count=count, place=basket.places)

    # --- Checkout ---------------------------------------------------------------

    def start(self, key: Key, *, test: bool) -> Session:
        if not self.present(key):
            raise Refused("cart_empty")
        basket = self.baskets[key]
        self._end_lapsed_or_refuse(basket)
        if not basket.cart or not self.present(key):
            raise Refused("cart_empty")
        if not test:
            self._reclaim(self._lacking({p: item.count for p, item in basket.cart.items() if self._is_limited(p)}))
        items = {product: self._checked_out(product, item, test=test) for product, item in basket.cart.items()}
        if all(item.failed for item in items.values()):
            shortages = [(product, item.count, item.count + (item.stocked or 0)) for product, item in items.items()]
            raise Refused("out_of_stock", sorted(shortages))
        self.starts += 1
        session = Session(number=self.starts, expires=self.now + HOLD, test=test, items=items)
        for product, item in items.items():
            if item.stocked is not None and item.stocked > 0:
                session.held[product] = item.count
        basket.cart = {}
        basket.sessions.append(session)
        self.sessions.append((key, session))
        self._changed(basket, session)
        return session

    def price_of(self, session: Session) -> int | None:
        bought = [(self.products[product].price, item.count) for product, item in session.items.items() if not item.failed]
        return None if any(price is None for price, _ in bought) else sum((price or 0) * count for price, count in bought)

    def finish(self, key: Key, *, ordered: bool, order_no: str | None) -> None:
        basket = self.baskets.get(key)
        if basket is None:
            raise Refused("basket_not_found")
        active = basket.active
        if active and order_no in (None, active.order_no):
            return self._order(basket, active) if ordered else self._end_unsold(basket, active, "ABORTED")
        session = self._meant(key, basket, ordered=ordered, order_no=order_no)
        if session.status == "ORDERED":
            if not ordered:
                raise Refused("checkout_already_ordered")
            return None
        if not ordered:
            return None
        if session.status == "ABORTED" and order_no is None:
            self._flag_refused(basket, session, "checkout_aborted", order_no=None)
            raise Refused("checkout_aborted")
        return self._order_late(key, basket, session, accept=key[0] in self.accepting, order_no=order_no)

    def sweep(self) -> None:
        """Everything that is due: lapsed checkouts first, then baskets past their time."""
        for key, session in self.sessions:
            if self.lapsed(session):
                self._end_unsold(self.baskets[key], session, "EXPIRED")
        for key, basket in self.baskets.items():
            if not basket.hidden and not self.present(key):
                self._hide(basket)

    def _checked_out(self, product: str, item: Item, *, test: bool) -> Item:
        known = self.products[product]
        for_sale = known.listed and not known.unlisted_at_start
        if test or (for_sale and not known.limited):
            return Item(item.count, item.place)
        obtainable = self.available(product) if for_sale else 0
        if known.most is not None:
            obtainable = min(obtainable, known.most)
        return Item(item.count, item.place, item.count if obtainable >= item.count else obtainable - item.count)

    def _is_limited(self, product: str) -> bool:
        return self.products[product].listed and self.products[product].limited

    def _meant(self, key: Key, basket: Basket, *, ordered: bool, order_no: str | None) -> Session:
        if order_no is not None:
            named = [session for session in basket.sessions if session.order_no == order_no]
            if not named:
                raise Refused("order_unknown" if self.present(key) else "basket_not_found")
            return named[0]
        ended = [session for session in basket.sessions if session.status != "ACTIVE"]
        last = max(ended, key=lambda session: (session.ended_revision, session.ended), default=None)
        moved = last is None or last.ended_revision != basket.revision
        if last and ordered and (moved or not self.present(key)):
            self._flag_refused(basket, last, "basket_changed", order_no=None)
        if not self.present(key):
            raise Refused("basket_not_found")
        if last is None or moved:
            raise Refused("no_active_checkout", (last.order_no, last.status) if last else None)
        return last

    def _order(self, basket: Basket, session: Session) -> None:
        session.sold, session.held, session.sold_at = session.held, Counter(), self.moment()
        self._sold(session, [product for product, item in session.items.items() if not item.failed])
        failed = {product: item for product, item in session.items.items() if item.failed}
        self._end(session, "ORDERED")
        self._return(basket, failed)
        self._changed(basket, session)
        session.ended_revision = basket.revision

    def _end_unsold(self, basket: Basket, session: Session, status: str) -> None:
        session.held, session.released = Counter(), self.now
        self._end(session, status)
        self._return(basket, session.items)
        self._changed(basket, session)
        session.ended_revision = basket.revision

    def _order_late(
        self, key: Key, basket: Basket, session: Session, *, accept: bool, order_no: str | None, by_staff: bool = False
    ) -> None:
        end = session.released if session.status == "ABORTED" else session.expires
        assert end is not None
        if not by_staff and self.now > end + GRACE:
            self._flag_refused(basket, session, "checkout_expired", order_no=order_no)
            raise Refused("checkout_expired")
        bought = {product: item.count for product, item in session.items.items() if not item.failed}
        wanted = {} if session.test else {p: n for p, n in bought.items() if self.products[p].limited}
        gone = {p: n for p, n in wanted.items() if self.products[p].gone_when_late}
        if gone and not accept:
            self._flag_refused(basket, session, "out_of_stock", order_no=order_no)
            raise Refused("out_of_stock", sorted((p, n, 0) for p, n in gone.items()))
        wanted = {p: n for p, n in wanted.items() if p not in gone}
        self._reclaim(self._lacking(wanted))
        lacking = [(p, n, self.available(p)) for p, n in sorted(wanted.items()) if self.available(p) < n]
        if lacking and not accept:
            self._flag_refused(basket, session, "out_of_stock", order_no=order_no)
            raise Refused("out_of_stock", lacking)
        if not self.present(key) and not basket.hidden:
            self._hide(basket)
        for product, pieces in wanted.items():
            there = min(pieces, self.available(product))
            session.sold[product], session.short[product] = there, pieces - there
        session.short.update(gone)
        session.sold_at, session.late = self.moment(), True
        self._sold(session, bought)
        self._end(session, "ORDERED")
        before = {product: item.count for product, item in basket.cart.items()}
        for product, pieces in bought.items():
            if product in basket.cart:
                basket.cart[product].count -= pieces
        basket.cart = {product: item for product, item in basket.cart.items() if item.count > 0}
        if before != {product: item.count for product, item in basket.cart.items()}:
            self._changed(basket, session)
        else:
            self._record_event(basket, session)
        session.ended_revision = basket.revision
        self._settle(basket, session, REFUSED)
        if any(session.short.values()):
            self._flag(basket, session, "short")

    def _end(self, session: Session, status: str) -> None:
        self.endings += 1
        session.status, session.ended, session.finished = status, self.endings, self.now

    @staticmethod
    def _return(basket: Basket, items: Mapping[str, Item]) -> None:
        for product, item in items.items():
            there = basket.cart.get(product)
            place = min(item.place, there.place) if there else item.place
            basket.cart[product] = Item(item.count + (there.count if there else 0), place)
            basket.saved.pop(product, None)

    def _sold(self, session: Session, bought: Iterable[str]) -> None:
        """Pieces that were held are sold, and so are those of unlimited products. Short ones never were there."""
        for product in () if session.test else bought:
            if pieces := session.sold[product]:
                self.products[product].happened.append((session.sold_at, -pieces))
            elif not session.short[product]:
                self.products[product].unheld.append((session.sold_at, session.items[product].count))

    def _end_lapsed_or_refuse(self, basket: Basket) -> None:
        """A guest's basket does not slide, so it may be past its time when its checkout keeps it no longer."""
        if (active := basket.active) is None:
            return
        if not self.lapsed(active):
            raise Refused("checkout_active", active.order_no)
        self._end_unsold(basket, active, "EXPIRED")

    def _lacking(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Pieces that must come back before there is enough; what is owed to the shop is paid off first."""
        return {p: n - self.free(p) for p, n in wanted.items() if self.available(p) < n}

    def _reclaim(self, lacking: Mapping[str, int]) -> None:
        """Expire lapsed sessions for their stock: whole, oldest first, no more than needed."""
        left = Counter(lacking)
        for product in sorted(lacking):
            holding = [(s.expires, s.number, key, s) for key, s in self.sessions if self.lapsed(s) and s.held[product]]
            for _, _, key, session in sorted(holding, key=lambda found: found[:2]):
                if left[product] <= 0:
                    break
                left.subtract(session.held)
                self._end_unsold(self.baskets[key], session, "EXPIRED")
