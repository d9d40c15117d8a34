/*
 * Claims, the decider's lock, epochs, proof of death and recovery: two deciders (1 and 2) and one hand (3) move one server
 * between two hosts, each may be killed anywhere and comes again, host 1 dies, returns and is cut off as it likes.
 * Property: the server never lives twice; and whenever a move is closed, it is where its mark says.
 *
 *   spin -a moves.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m200000
 *
 * Switches:  LOSS      a decider may lose its locks without noticing, as on a share that went away
 *            CRASHES=n how many kills there are, two unless said
 *            LOCKS     the driver's disks are shared and locked while a machine runs
 *            NO_CLAIM, NO_PROOF, NO_LAPSE, NO_EPOCH   one safeguard less: the model must then find a run that breaks a property
 */
#ifndef CRASHES
#define CRASHES 2
#endif
#define MAXEPOCH 4

byte holder = 0;            /* who holds the decider's lock */
byte epoch = 0;             /* the highest epoch given out */
byte seen = 0;              /* the highest epoch that the driver has seen */
byte claim = 0;             /* who has claimed the server; its journal: */
byte kind = 0, step = 0;
bool released = 0;          /* its owner let go of it */
bool alive[4];              /* whose lock file is locked */
byte crashes = 0;

byte at = 1, mark = 1;      /* where the server's files are, and where its mark says */
bool run1 = 1, run2 = 0;    /* is it running there */
bool up = 1, reach = 1;     /* host 1 */
bool word = 0;              /* a fence script or an operator said that host 1 is dead */
#ifdef LOSS
bool lost = 0;
#endif

/* ---- the driver: each call is one effect, refused for a stale epoch; ok says what became of it ---- */

inline admit(e) {
  ok = 1;
#ifndef NO_EPOCH
  if
  :: e > 0 && e < seen -> ok = 0
  :: e > seen -> seen = e
  :: else
  fi
#else
  /* What the epoch is for: nothing of an old decider takes effect after something of a newer one has. */
  assert(e == 0 || e >= seen);
  if :: e > seen -> seen = e :: else fi
#endif
}

inline save(h, e) {
  atomic {
    admit(e);
    if
    :: ok && h == 1 && reach && at == 1 -> run1 = 0
    :: ok && h == 2 && at == 2 -> run2 = 0
    :: else -> ok = 0
    fi
  }
}

inline carry(from, to, e) {
  atomic {
    admit(e);
    if
    :: ok && at == to -> skip
    :: ok && at == from && from == 1 && reach && !run1 -> at = to
    :: ok && at == from && from == 2 && reach && !run2 -> at = to
#ifdef LOCKS
    :: ok && at == from && from == 1 && !reach && !run1 -> at = to
#else
    :: ok && at == from && from == 1 && !reach -> at = to      /* its disk is reached, and nothing tells whether it is in use */
#endif
    :: else -> ok = 0
    fi
  }
}

inline start(h, e) {
  atomic {
    admit(e);
    if
#ifdef LOCKS
    :: ok && h == 1 && reach && at == 1 && !run2 -> run1 = 1
    :: ok && h == 2 && at == 2 && !run1 -> run2 = 1
#else
    :: ok && h == 1 && reach && at == 1 -> run1 = 1
    :: ok && h == 2 && at == 2 && !(reach && run1) -> run2 = 1 /* a copy on a host that answers is seen */
#endif
    :: else -> ok = 0
    fi;
    assert(!(run1 && run2))
  }
}

inline prove() {
#ifdef NO_PROOF
  ok = 1
#else
#ifdef LOCKS
  ok = (word || !run1)
#else
  ok = word
#endif
#endif
}

/* ---- an agent ---- */

/* Before each step: am I still the decider, and is the claim still mine? */
#if defined(NO_CLAIM)
#define MINE (!(decides && holder != id))
#else
#define MINE (claim == id && !(decides && holder != id))
#endif

#define DIE atomic { crashes < CRASHES -> crashes++; alive[id] = 0; if :: holder == id -> holder = 0 :: else fi; goto again }

#define STEP(n) if :: atomic { MINE -> step = n } :: !MINE -> goto again :: DIE fi

#define CALL(c) if :: c; if :: ok :: !ok -> goto release fi :: DIE fi

proctype agent(byte id; bool decides) {
  byte my = 0;
  bool ok = 0;

again:
  my = 0;
  if
  :: decides -> atomic { holder == 0 && epoch < MAXEPOCH -> holder = id; epoch++; my = epoch }
  :: else
  fi;
  alive[id] = 1;

idle:
  if
  :: decides && holder != id -> goto again
#ifdef NO_CLAIM
  :: true -> released = 0
#else
  :: atomic { claim == 0 -> claim = id; released = 0; kind = 0; step = 0 }
  :: atomic { claim != 0 && claim != id && (released || !alive[claim]) -> claim = id; released = 0; goto recover }
  :: atomic { claim == id && released -> released = 0; goto recover }
#endif
  :: DIE
  fi;

  /* The preconditions, read from the truth. */
  if
  :: at == 1 && run1 && reach && mark == 1 -> goto relocate12
  :: at == 2 && run2 && reach && mark == 2 && !word -> goto relocate21
  :: at == 1 && !run1 && reach && mark == 1 && !word -> goto start1
  :: at == 1 && !reach && mark == 1 -> prove(); if :: ok -> goto restart12 :: !ok -> goto close fi
  :: else -> goto close
  fi;

relocate12:
  kind = 1;
  STEP(1);
save1:
  CALL(save(1, my));
  STEP(2);
carry12:
  CALL(carry(1, 2, my));
  STEP(3);
go2:
  CALL(start(2, my));
  STEP(4);
mark2:
  atomic { if :: at == 2 -> mark = 2 :: else -> goto release fi };
  goto close;

relocate21:
  kind = 2;
  STEP(1);
save2:
  CALL(save(2, my));
  STEP(2);
carry21:
  CALL(carry(2, 1, my));
  STEP(3);
go1:
  CALL(start(1, my));
#ifndef NO_LAPSE
  if :: word = 0 :: DIE fi;                 /* a host that does something is not dead: what was said of it no longer holds */
#endif
  STEP(4);
mark1:
  atomic { if :: at == 1 -> mark = 1 :: else -> goto release fi };
  goto close;

start1:
  kind = 3;
  STEP(3);
  goto go1;

restart12:
  kind = 4;
  STEP(2);
take12:
  if :: at == 1 && !reach -> prove(); if :: ok :: !ok -> goto release fi :: else fi;   /* proven again at the last moment */
  CALL(carry(1, 2, my));
  STEP(3);
  goto go2;

recover:
  if
  :: step == 0 -> goto close
  :: kind == 1 && step == 1 -> goto save1
  :: kind == 1 && step == 2 && at == 1 -> goto back1                                 /* taken back, which is journaled */
  :: kind == 1 && step == 2 -> goto carry12
  :: (kind == 1 || kind == 4) && step == 3 -> goto go2
  :: (kind == 1 || kind == 4) && step == 4 -> goto mark2
  :: kind == 2 && step == 1 -> goto save2
  :: kind == 2 && step == 2 && at == 2 -> goto back2
  :: kind == 2 && step == 2 -> goto carry21
  :: (kind == 2 || kind == 3) && step == 3 -> goto go1
  :: (kind == 2 || kind == 3) && step == 4 -> goto mark1
  :: kind == 4 && step == 2 -> goto take12
  fi;

back1:
  atomic { if :: MINE -> kind = 3; step = 3 :: else -> goto again fi };
  goto go1;

back2:
  atomic { if :: MINE -> kind = 1; step = 3 :: else -> goto again fi };
  goto go2;

release:                    /* left as it is, for anybody to take up */
  atomic { if :: claim == id -> released = 1 :: else fi };
  goto idle;

close:
  if
  :: atomic { MINE ->
#if !defined(LOSS) && !defined(NO_CLAIM)
       assert(at == mark);
#endif
       if :: claim == id -> claim = 0 :: else fi; kind = 0; step = 0 }
  :: !MINE -> goto again
  :: DIE
  fi;
  goto idle
}

proctype world() {
  do
  :: reach -> reach = 0                                               /* cut off */
  :: up && !reach -> reach = 1                                        /* healed */
  :: up -> atomic { up = 0; reach = 0; run1 = 0 }                     /* dies */
  :: !up -> atomic { up = 1; reach = 1 }                              /* returns, with its machines off */
  :: !up && !word -> word = 1                                         /* an operator's word, which is true */
  :: !reach && !word -> atomic { up = 0; run1 = 0; word = 1 }         /* a fence script, which makes it true */
  :: word && reach -> word = 0                                        /* taken back into use once it answers */
#ifdef LOSS
  :: atomic { !lost && holder != 0 -> lost = 1; alive[holder] = 0; holder = 0 }
#endif
  od
}

init {
  atomic { run world(); run agent(1, 1); run agent(2, 1); run agent(3, 0) }
}
