"""The contract behind the counter: what the shop reports, what its staff repair, and what a purge leaves of the past."""

from tests.model_based.devices import Devices
from tests.model_based.shop import GRACE
from tests.model_based.state import Basket, Key, Moment, Product, Refused, Session

DAY = 24 * 3600
# A purge never keeps less than the time for late orders.
RETENTION = GRACE


class Office(Devices):
    """All that is left to do, and so the whole of the model."""

    # --- Stock ------------------------------------------------------------------

    def report(self, product: str, unsold: int | None, *, ago: int) -> None:
        known, moment = self.products[product], self.moment(ago)
        if known.latest and moment < known.latest[0]:
            return
        if unsold is not None and known.forgotten and known.forgotten > moment:
            raise Refused("sales_purged")
        if unsold is not None:
            if not known.limited:
                known.happened += [(at, -pieces) for at, pieces in known.unheld if at > moment]
                known.unheld = [sale for sale in known.unheld if sale[0] <= moment]
            known.counted = moment, unsold
        known.latest = moment, unsold

    def adjust(self, product: str, pieces: int) -> None:
        if not self.products[product].limited or not pieces:
            raise Refused("not_repairable")
        if self.supply(product) + pieces < 0:
            raise Refused("supply_below_zero")
        self.products[product].happened.append((self.moment(), pieces))

    # --- Checkouts --------------------------------------------------------------

    def staff_finish(self, session: Session, key: Key, *, ordered: bool) -> None:
        if session.status != "ACTIVE":
            raise Refused("not_repairable")
        self.finish(key, ordered=ordered, order_no=session.order_no)
        self._record_event(self.baskets[key], session)

    def staff_order_late(self, session: Session, key: Key, *, accept: bool) -> None:
        if session.status not in {"ABORTED", "EXPIRED"}:
            raise Refused("not_repairable")
        self._order_late(key, self.baskets[key], session, accept=accept, order_no=session.order_no, by_staff=True)
        self._record_event(self.baskets[key], session)

    def staff_reverse(self, session: Session, key: Key) -> None:
        if session.status != "ORDERED" or session.reversed:
            raise Refused("not_repairable")
        session.reversed = True
        self._record_event(self.baskets[key], session)
        self._settle(self.baskets[key], session, {"short"})
        self._record_event(self.baskets[key], session)
        for product, pieces in session.sold.items():
            self.products[product].happened.append((self.moment(), pieces))
        for product, item in session.items.items():
            known, unheld = self.products[product], not session.sold[product] and not session.short[product]
            if unheld and not item.failed and not session.test and known.latest and self._in_account(known, session.sold_at, item.count):
                known.happened.append((self.moment(), item.count))

    @staticmethod
    def _in_account(known: Product, sold_at: Moment, count: int) -> bool:
        """What was ordered without a hold counts, unless the product was limited then and no report has had a say on it since."""
        recorded = (sold_at, -count) in known.happened
        return not known.limited or recorded or (known.latest is not None and sold_at <= known.latest[0])

    def staff_release(self, session: Session, key: Key, product: str) -> None:
        """One hold is given back, and the checkout goes on without that item."""
        others = [item for name, item in session.items.items() if name != product]
        if not session.held[product] or all(item.failed for item in others):
            raise Refused("not_repairable")
        del session.held[product]
        session.items[product].stocked, session.items[product].released = -session.items[product].count, True
        self._changed(self.baskets[key], session)

    def staff_hold_again(self, session: Session, key: Key) -> None:
        """What failed at the start is held until the end of the hold, each item whole or not at all."""
        failed = {p: item for p, item in session.items.items() if item.failed and not item.released}
        listed = {p: item for p, item in failed.items() if self.products[p].listed}
        if session.status != "ACTIVE" or self.lapsed(session) or not listed:
            raise Refused("not_repairable")
        wanted = {p: item.count for p, item in listed.items() if self.products[p].limited}
        self._reclaim(self._lacking(wanted))
        lacking = sorted((p, n, self.available(p)) for p, n in wanted.items() if self.available(p) < n)
        if len(lacking) == len(listed):
            raise Refused("out_of_stock", lacking)
        for product, item in listed.items():
            if product not in wanted:
                item.stocked = None
            elif self.available(product) >= item.count:
                session.held[product] = item.stocked = item.count
        self._changed(self.baskets[key], session)

    def staff_settle(self, session: Session, key: Key, reason: str) -> None:
        if not self._settle(self.baskets[key], session, {reason}):
            raise Refused("not_repairable")
        self._record_event(self.baskets[key], session)

    def staff_settle_all(self, key: Key) -> None:
        basket = self.baskets[key]
        flagged = [session for session in basket.sessions if session.open()]
        if not flagged:
            raise Refused("not_repairable")
        for session in flagged:
            self._settle(basket, session, session.open())
        self._record_event(basket)

    # --- Baskets ----------------------------------------------------------------

    def staff_change(self, key: Key, product: str, count: int) -> None:
        before = self.baskets[key].revision
        self.change(key, product, count)
        if self.baskets[key].revision == before:
            raise Refused("not_repairable")
        self._record_event(self.baskets[key])

    def staff_extend(self, key: Key, days: int) -> None:
        until = self.now + days * DAY
        if not self.present(key) or until <= self.baskets[key].expires:
            raise Refused("not_repairable")
        self.baskets[key].expires = until
        self._record_event(self.baskets[key])

    def staff_end(self, key: Key) -> None:
        self.delete(key)
        self._record_event(self.baskets[key])

    def erase(self, key: Key, name: Key) -> None:
        """The basket is emptied, hidden and anonymous: a returning user starts with a new one."""
        basket = self.baskets[key]
        self._end_lapsed_or_refuse(basket)
        if basket.erased:
            raise Refused("not_repairable")
        if not basket.hidden:
            self._hide(basket)
        basket.erased = True
        self._record_event(basket)
        self.baskets[name] = self.baskets.pop(key)
        self.sessions = [(name if of == key else of, session) for of, session in self.sessions]
        self._delete_offers(key)
        self.comfort.pop(key, None)

    def _delete_offers(self, key: Key) -> None:
        for offer in self.offers:
            offer.open = offer.open and offer.key != key

    # --- The past ---------------------------------------------------------------

    def purge(self) -> None:
        """The beginning of each timeline, with the checkouts it tells of; of a basket hidden long ago, all there is."""
        for key, basket in list(self.baskets.items()):
            whole = basket.hidden and self._is_older_than_retention(basket.hidden_since)
            if whole and self._cut(basket, whole=True) == len(basket.timeline):
                self._purge_events(basket, len(basket.timeline))
                self._delete_offers(key)
                del self.baskets[key]
            else:
                self._purge_events(basket, self._cut(basket, whole=False))

    def _is_older_than_retention(self, moment: int) -> bool:
        return moment < self.now - RETENTION

    def _cut(self, basket: Basket, *, whole: bool) -> int:
        """How many events go: old ones, not those of the last change, and no checkout is torn apart."""
        cut = 0
        for at, revision, session in basket.timeline:
            last = revision == basket.revision and not whole
            if last or not self._is_older_than_retention(at) or (session is not None and self._stays(session)):
                break
            cut += 1
        while any(session is later for *_, session in basket.timeline[:cut] for *_, later in basket.timeline[cut:] if session):
            cut -= 1
        return cut

    def _stays(self, session: Session) -> bool:
        """While it is young, while staff have to look at it, and while it explains a shortfall."""
        owed = any(pieces and self.free(product) < 0 for product, pieces in session.sold.items())
        return session.status == "ACTIVE" or not self._is_older_than_retention(session.finished) or bool(session.open()) or owed

    def _purge_events(self, basket: Basket, number: int) -> None:
        gone = {id(session) for *_, session in basket.timeline[:number] if session is not None}
        for session in basket.sessions:
            for product in session.items if id(session) in gone else ():
                known = self.products[product]
                known.unheld = [sale for sale in known.unheld if sale[0] != session.sold_at]
                unheld = (
                    session.status == "ORDERED" and not session.test and not session.items[product].failed and not session.short[product]
                )
                if session.sold[product] or (unheld and known.latest):
                    known.forgotten = max(known.forgotten or session.sold_at, session.sold_at)
        basket.sessions = [session for session in basket.sessions if id(session) not in gone]
        self.sessions = [(key, session) for key, session in self.sessions if id(session) not in gone]
        basket.timeline = basket.timeline[number:]
        basket.purged += number
