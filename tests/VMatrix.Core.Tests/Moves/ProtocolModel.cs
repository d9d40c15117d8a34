using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Tests.Moves;

/// <summary>What keeps a server from living twice; each can be taken away to see that the model notices.</summary>
[Flags]
internal enum Guards
{
    None = 0,

    /// <summary>An open move's file is the claim of its server.</summary>
    Claims = 1,

    /// <summary>Taking over a dead owner's move is one step, under a lock.</summary>
    TakeOverLock = 2,

    /// <summary>A driver refuses an epoch lower than one it has seen.</summary>
    Epochs = 4,

    /// <summary>A driver starts a server only where its files are, and takes files only from where it does not run as far as it can see.</summary>
    Driver = 8,

    /// <summary>A running machine locks its disk, also on a host that cannot be reached.</summary>
    DiskLocks = 16,

    /// <summary>Files are taken from a host that cannot be reached only with a proof.</summary>
    Proof = 32,

    /// <summary>A host that answers again, to a question or a start, ends the word that it is dead.</summary>
    WordEnds = 64,

    All = 127,
}

/// <summary>
/// The protocol of claims, decider's lock, epochs and recovery for one server, two hosts that reach each other's disks, two deciders and
/// one hand, as a state machine whose every run is looked at: any actor may be killed between any two moments, its last call may arrive
/// later or never, the decider's lock may be lost unnoticed, host A may be cut off or die and come back.
/// </summary>
internal sealed class ProtocolModel(Guards guards, bool rashOperator = false, bool lateCalls = true)
{
    public const int Hand = 2;

    internal enum Phase : byte
    {
        Idle,
        SawFree,
        Owns,
        Waits,
    }

    internal enum Op : byte
    {
        None,
        SaveA,
        SaveB,
        CarryToB,
        CarryToA,
        StartA,
        StartB,
    }

    internal readonly record struct Actor(bool Alive, Phase Phase, byte Epoch);

    internal readonly record struct Call(Op Op, byte Epoch, byte From, bool Awaited);

    internal readonly record struct State
    {
        public bool RunsA { get; init; }

        public bool RunsB { get; init; }

        public bool FilesOnB { get; init; }

        public bool Cut { get; init; }

        public bool Dead { get; init; }

        public bool Word { get; init; }

        public bool Open { get; init; }

        public byte Owner { get; init; }

        public bool OwnerAlive { get; init; }

        public bool Back { get; init; }

        public bool Restart { get; init; }

        public byte Lock { get; init; }

        public byte Epoch { get; init; }

        public byte Seen { get; init; }

        public byte Faults { get; init; }

        public Actor A0 { get; init; }

        public Actor A1 { get; init; }

        public Actor A2 { get; init; }

        public Call C0 { get; init; }

        public Call C1 { get; init; }

        public bool StaleTookEffect { get; init; }

        public Actor this[int i] => i == 0 ? A0 : i == 1 ? A1 : A2;

        public State With(int i, Actor actor) => i == 0 ? this with { A0 = actor } : i == 1 ? this with { A1 = actor } : this with { A2 = actor };

        public bool ReachableA => !Cut && !Dead;

        public override string ToString() =>
            $"files {(FilesOnB ? "B" : "A")}{(RunsA ? ", runs on A" : "")}{(RunsB ? ", runs on B" : "")}{(Cut ? ", A cut off" : "")}{(Dead ? ", A dead" : "")}{(Word ? ", word given" : "")}"
            + $"; move {(Open ? $"of {Owner}{(OwnerAlive ? "" : " (gone)")}{(Back ? " back" : "")}" : "none")}; lock {Lock}, seen {Seen}; 0 {A0.Phase} {A0.Epoch}, 1 {A1.Phase} {A1.Epoch}, hand {A2.Phase}; {Text(C0)} {Text(C1)}";

        private static string Text(Call call) => call.Op is Op.None ? "" : $"[{call.Op} by {call.From}{(call.Awaited ? "" : ", late")}]";

        public bool Whole => !Open && C0.Op is Op.None && C1.Op is Op.None && RunsA != RunsB && RunsB == FilesOnB;
    }

    public State Start { get; } = new()
    {
        RunsA = true,
        A0 = new Actor(true, Phase.Idle, 0),
        A1 = new Actor(true, Phase.Idle, 0),
        A2 = new Actor(true, Phase.Idle, 0),
    };

    private bool Has(Guards guard) => (guards & guard) != 0;

    /// <summary>The first state, if any, in which something forbidden is true, with what it is; and how many states there are.</summary>
    public (string? Fault, int States) Check(int faults)
    {
        var index = new Dictionary<State, int>();
        var states = new List<State>();
        var parents = new List<List<int>>();
        int Add(State state)
        {
            if (!index.TryGetValue(state, out var id))
            {
                index[state] = id = states.Count;
                states.Add(state);
                parents.Add([]);
            }
            return id;
        }

        Add(Start with { Faults = (byte)faults });
        for (var i = 0; i < states.Count; i++)
        {
            if (Forbidden(states[i]) is { } fault)
                return ($"{fault}\n{Trace(i)}", states.Count);
            foreach (var next in Next(states[i]))
                parents[Add(next)].Add(i);
        }

        // Nothing is lost: from every state a whole one can be reached.
        var good = new bool[states.Count];
        var work = new Stack<int>(Enumerable.Range(0, states.Count).Where(i => states[i].Whole));
        foreach (var i in work)
            good[i] = true;
        while (work.TryPop(out var i))
        {
            foreach (var parent in parents[i].Where(p => !good[p]))
            {
                good[parent] = true;
                work.Push(parent);
            }
        }
        var lost = Array.IndexOf(good, false);
        return (lost < 0 ? null : $"lost: it cannot become whole again\n{Trace(lost)}", states.Count);

        // The shortest way there: each state was first added by its first parent.
        string Trace(int i)
        {
            var path = new List<State>();
            for (; i != 0; i = parents[i][0])
                path.Insert(0, states[i]);
            return string.Join("\n", path);
        }
    }

    private static string? Forbidden(State s)
    {
        if (s.RunsA && s.RunsB)
            return "twice: the server runs on both hosts";
        if (s.StaleTookEffect)
            return "stale: a call of a decider that was replaced took effect after its successor's";
        var working = Enumerable.Range(0, 3).Count(i => s[i].Alive && s[i].Phase is Phase.Owns or Phase.Waits);
        return working > 1 ? "shared: two actors carry out moves of the same server" : null;
    }

    private IEnumerable<State> Next(State s)
    {
        for (var i = 0; i < 3; i++)
            foreach (var next in Act(s, i))
                yield return next;
        foreach (var next in Arrive(s, s.C0))
            yield return next with { C0 = default };
        foreach (var next in Arrive(s, s.C1))
            yield return next with { C1 = default };

        // What the world does.
        if (s.Faults > 0)
        {
            var less = s with { Faults = (byte)(s.Faults - 1) };
            if (s.ReachableA)
            {
                yield return less with { Cut = true };
                yield return less with { Dead = true, RunsA = false };
            }
            if (s.Lock != 0)
                yield return less with { Lock = 0 };
        }
        if (s.Cut)
            yield return s with { Cut = false };
        if (s.Dead)
            yield return s with { Dead = false };
        if ((s.Dead || (rashOperator && s.Cut)) && !s.Word)
            yield return s with { Word = true };
    }

    private IEnumerable<State> Act(State s, int i)
    {
        var me = s[i];
        if (!me.Alive)
        {
            yield return s.With(i, new Actor(true, Phase.Idle, 0));
            yield break;
        }
        if (s.Faults > 0)
        {
            // Killed: the operating system ends its locks; a call that is under way may still arrive, or not.
            var dead = (s with { Faults = (byte)(s.Faults - 1), Lock = s.Lock == i + 1 ? (byte)0 : s.Lock, OwnerAlive = s.OwnerAlive && s.Owner != i }).With(i, new Actor(false, Phase.Idle, 0));
            if (lateCalls)
                yield return dead with { C0 = Orphan(s.C0, i), C1 = Orphan(s.C1, i) };
            yield return dead with { C0 = s.C0.From == i && s.C0.Awaited ? default : s.C0, C1 = s.C1.From == i && s.C1.Awaited ? default : s.C1 };
        }

        // A decider takes the lock and a new epoch before anything else.
        if (i != Hand && me.Epoch == 0)
        {
            if (s.Lock == 0 && s.Epoch < 3)
                yield return (s with { Lock = (byte)(i + 1), Epoch = (byte)(s.Epoch + 1) }).With(i, me with { Epoch = (byte)(s.Epoch + 1) });
            yield break;
        }
        var decides = i == Hand || s.Lock == i + 1;
        switch (me.Phase)
        {
            case Phase.Idle when !decides:
                // It notices the loss and begins anew.
                yield return s.With(i, me with { Epoch = 0 });
                break;

            case Phase.Idle:
                if (!s.Open || !Has(Guards.Claims))
                {
                    foreach (var back in new[] { false, true })
                        yield return (s with { Open = true, Owner = (byte)i, OwnerAlive = true, Back = back }).With(i, me with { Phase = Phase.Owns });
                }
                else if (!s.OwnerAlive)
                {
                    if (Has(Guards.TakeOverLock))
                        foreach (var next in TakeOver(s, i))
                            yield return next;
                    else
                        yield return s.With(i, me with { Phase = Phase.SawFree });
                }
                break;

            case Phase.SawFree:
                if (s.Open)
                    foreach (var next in TakeOver(s, i))
                        yield return next;
                else
                    yield return s.With(i, me with { Phase = Phase.Idle });
                break;

            case Phase.Owns when !s.Open || (s.Owner != i && Has(Guards.Claims)):
                // The journal says that somebody else took the move over.
                yield return s.With(i, me with { Phase = Phase.Idle });
                break;

            case Phase.Owns when !decides:
                // Its decider's lock is gone: it lets go, and whoever decides now takes the move up.
                yield return (s with { OwnerAlive = false }).With(i, me with { Phase = Phase.Idle, Epoch = 0 });
                break;

            case Phase.Owns:
                foreach (var next in Work(s, i))
                    yield return next;
                break;
        }
    }

    private static Call Orphan(Call call, int actor) => call.From == actor ? call with { Awaited = false } : call;

    private static IEnumerable<State> TakeOver(State s, int i)
    {
        foreach (var back in new[] { false, true })
            yield return (s with { Owner = (byte)i, OwnerAlive = true, Back = back }).With(i, s[i] with { Phase = Phase.Owns });
    }

    /// <summary>Reads the truth and makes the next call; or ends the move.</summary>
    private IEnumerable<State> Work(State s, int i)
    {
        var me = s[i];
        if (s.ReachableA && Has(Guards.WordEnds))
            s = s with { Word = false };
        var proven = !Has(Guards.Proof) || s.Word || (Has(Guards.DiskLocks) && !s.RunsA);
        if (!s.ReachableA && !(s.FilesOnB && s.Restart))
        {
            // What cannot be seen is left alone, unless it is proven that nothing runs there.
            if (!s.FilesOnB && proven && !s.Back)
                yield return Send(s with { Restart = true }, i, Op.CarryToB);
            yield return (s with { OwnerAlive = false }).With(i, me with { Phase = Phase.Idle });
            yield break;
        }
        var op = (s.FilesOnB, s.Back) switch
        {
            (false, false) => s.RunsA ? Op.SaveA : Op.CarryToB,
            (true, false) => s.RunsB ? Op.None : Op.StartB,
            (true, true) => !s.ReachableA ? Op.None : s.RunsB ? Op.SaveB : Op.CarryToA,
            (false, true) => s.RunsA ? Op.None : Op.StartA,
        };
        if (op is not Op.None)
            yield return Send(s, i, op);
        else if (s.FilesOnB && s.Back)
            yield return s with { Back = false };
        else
            yield return (s with { Open = false, Owner = 0, OwnerAlive = false, Back = false, Restart = false }).With(i, me with { Phase = Phase.Idle });
    }

    private static State Send(State s, int i, Op op)
    {
        var call = new Call(op, s[i].Epoch, (byte)i, true);

        // Two calls under way at most: a third waits, which leaves out no order of arrival that matters to one server.
        if (s.C0.Op is not Op.None && s.C1.Op is not Op.None)
            return s;
        s = s.C0.Op is Op.None ? s with { C0 = call } : s with { C1 = call };
        return s.With(i, s[i] with { Phase = Phase.Waits });
    }

    private IEnumerable<State> Arrive(State s, Call call)
    {
        if (call.Op is Op.None)
            yield break;
        var stale = call.Epoch > 0 && call.Epoch < s.Seen;
        var done = s;
        var worked = !(stale && Has(Guards.Epochs));
        if (worked)
        {
            done = Effect(s, call.Op);
            worked = done != s;
            done = done with { Seen = Math.Max(s.Seen, call.Epoch), StaleTookEffect = s.StaleTookEffect || (stale && worked) };
        }
        if (!call.Awaited)
        {
            yield return done;
            yield break;
        }
        if (worked && call.Op is Op.StartA && Has(Guards.WordEnds))
            done = done with { Word = false };
        done = done.With(call.From, done[call.From] with { Phase = Phase.Owns });
        yield return done;

        // A call that failed makes its move turn back, if it is still its own.
        if (!worked && done.Owner == call.From)
            yield return done with { Back = !done.Back };
    }

    private State Effect(State s, Op op)
    {
        var guarded = Has(Guards.Driver);
        return op switch
        {
            Op.SaveA when s.ReachableA => s with { RunsA = false },
            Op.SaveB => s with { RunsB = false },
            Op.CarryToB when !s.FilesOnB && !(guarded && s.RunsA && (s.ReachableA || Has(Guards.DiskLocks))) => s with { FilesOnB = true },
            Op.CarryToA when s.FilesOnB && s.ReachableA && !(guarded && s.RunsB) => s with { FilesOnB = false },
            Op.StartA when s.ReachableA && (!guarded || !s.FilesOnB) => s with { RunsA = true },
            Op.StartB when !guarded || s.FilesOnB => s with { RunsB = true },
            _ => s,
        };
    }
}
