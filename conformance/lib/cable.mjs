// A cable between a tab and the hub that can be pulled: bytes stop, and nobody is told.

import net from 'node:net';

export class Cable {
  #server;
  #sockets = new Set();
  #pulled = false;

  /** Listens on a free port and forwards to `port`. */
  async lay(port) {
    this.#server = net.createServer((near) => this.#join(near, port));
    await new Promise((done) => { this.#server.listen(0, '127.0.0.1', done); });
    return this.#server.address().port;
  }

  #join(near, port) {
    if (this.#pulled) { this.#hold(near); return; }
    const far = net.connect(port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#hold(from);
      from.on('close', () => to.destroy());
      from.pipe(to);
    }
  }

  #hold(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  /** From now on nothing passes. What was connected stays so, and never carries a byte again. */
  pull() {
    this.#pulled = true;
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.removeAllListeners('close');
      socket.on('close', () => this.#sockets.delete(socket));
      socket.resume(); // the bytes are lost on the way
    }
  }

  /** New connections pass again. */
  plug() { this.#pulled = false; }

  remove() {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
