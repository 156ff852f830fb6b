'use strict';
// What came, in order, for those who ask for it, before or after it came.

module.exports = class Inbox {
  #items = [];
  #takers = [];

  put(item) {
    const taker = this.#takers.shift();
    if (taker) taker(null, item);
    else this.#items.push(item);
  }

  take(callback) {
    if (this.#items.length > 0) callback(null, this.#items.shift());
    else this.#takers.push(callback);
  }
};
