using System;
using System.IO;
using System.Threading;

namespace VMatrix.Moves;

/// <summary>The held lock of the one decider.</summary>
public sealed class Decider : IDisposable
{
    private readonly string _folder;
    private readonly FileStream _lock;
    private readonly Guid _nonce;

    private Decider(string folder, FileStream held, Guid nonce, long epoch)
    {
        (_folder, _lock, _nonce) = (folder, held, nonce);
        Epoch = epoch;
    }

    /// <summary>The epoch, greater than any before.</summary>
    public long Epoch { get; }

    /// <summary>Throws <c>DeciderLost</c> when the lock is no longer held: the state folder went away, or its files were replaced or deleted and somebody else may have taken over.</summary>
    public void Check()
    {
        try
        {
            if (_lock.CanWrite && StateFiles.IsLocked(LockPath(_folder)) && StateFiles.TryReadJson<Holder>(HolderPath(_folder))?.Nonce == _nonce)
                return;
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is VMatrixException)
        {
            throw Lost(_folder, null, e);
        }
        throw Lost(_folder, Read(_folder));
    }

    /// <inheritdoc/>
    public void Dispose() => _lock.Dispose();

    internal static Decider Take(string folder, string by, Func<IDisposable> lockClaims)
    {
        FileStream? held = null;

        // Somebody who only looks holds the lock for microseconds; a decider holds it.
        for (var tries = 0; held is null && tries < 5; tries++)
        {
            if (tries > 0)
                Thread.Sleep(10);
            held = StateFiles.TryLock(LockPath(folder));
        }
        if (held is null)
            throw new VMatrixException("DeciderBusy", VMatrixErrorKind.Busy, $"The pool has a decider already: {Read(folder) ?? "one that has just begun"}. Stop it, or let it switch.");
        try
        {
            using (lockClaims())
            {
                var before = StateFiles.TryReadJson<Holder>(HolderPath(folder));
                var nonce = Guid.NewGuid();

                // With the file lost the drivers may still remember epochs: one from the wall clock is above them all.
                var epoch = before is null && held.Length > 0 ? DateTimeOffset.UtcNow.ToUnixTimeSeconds() : (before?.Epoch ?? 0) + 1;
                StateFiles.Replace(HolderPath(folder), StateFiles.ToBytes(new Holder { Epoch = epoch, By = by, Nonce = nonce, Since = DateTimeOffset.UtcNow }));
                if (held.Length == 0)
                {
                    held.WriteByte((byte)'.');
                    held.Flush(true);
                }
                return new Decider(folder, held, nonce, epoch);
            }
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    internal static string? Read(string folder)
    {
        if (!StateFiles.IsLocked(LockPath(folder)))
            return null;
        try
        {
            return StateFiles.TryReadJson<Holder>(HolderPath(folder))?.By;
        }
        catch (VMatrixException)
        {
            return "one whose name cannot be read";
        }
    }

    internal static VMatrixException Lost(string folder, string? by, Exception? inner = null) =>
        new("DeciderLost", VMatrixErrorKind.Busy, $"The decider's lock in {folder} is no longer held by this process" + (by is null ? "." : $"; {by} has it now.") + " Nothing more is changed; start again.", inner);

    private static string LockPath(string folder) => Path.Combine(folder, "decider.lock");

    private static string HolderPath(string folder) => Path.Combine(folder, "decider.json");

    private sealed record Holder
    {
        public long Epoch { get; init; }

        public string By { get; init; } = "";

        public Guid Nonce { get; init; }

        public DateTimeOffset Since { get; init; }
    }
}
