using System;
using System.Collections.Generic;
using System.IO;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace VMatrix.Pools;

internal enum NodeKind
{
    Scalar,
    List,
    Map,
}

/// <summary>A piece of a pool file with the place where it stands.</summary>
internal sealed class PoolNode(NodeKind kind, int line, int column)
{
    public NodeKind Kind { get; } = kind;

    /// <summary>Line, from 1.</summary>
    public int Line { get; } = line;

    /// <summary>Column, from 1.</summary>
    public int Column { get; } = column;

    /// <summary>A scalar's text; empty for others.</summary>
    public string Text { get; init; } = "";

    /// <summary>True for a scalar without quotes, which YAML may take for a number, a truth or nothing.</summary>
    public bool IsPlain { get; init; }

    public List<PoolNode> Items { get; } = [];

    public List<(PoolNode Key, PoolNode Value)> Entries { get; } = [];

    /// <summary>True for a key with nothing behind it.</summary>
    public bool IsNothing => IsPlain && Text is "" or "~" or "null" or "Null" or "NULL";

    /// <summary>The value of the first entry with that key, or null.</summary>
    public PoolNode? this[string key]
    {
        get
        {
            foreach (var (k, v) in Entries)
                if (k.Kind == NodeKind.Scalar && k.Text == key)
                    return v;
            return null;
        }
    }
}

/// <summary>What makes a file unreadable as a whole.</summary>
internal sealed class PoolSyntaxException(int line, int column, string found, string message) : Exception(message)
{
    public int Line { get; } = line;

    public int Column { get; } = column;

    public string Found { get; } = found;
}

/// <summary>Turns YAML text into nodes, within bounds. Works on the parser's events, because YamlDotNet's own node tree follows aliases, stops at the first duplicate key and recurses without limit.</summary>
internal sealed class PoolTree
{
    /// <summary>Levels of nesting; a pool file needs eight.</summary>
    private const int MostDepth = 16;

    private readonly Parser _parser;

    private PoolTree(string text) => _parser = new Parser(new StringReader(text));

    /// <summary>Reads the one document of a file.</summary>
    /// <exception cref="PoolSyntaxException">It cannot be read as a whole.</exception>
    public static PoolNode Parse(string text)
    {
        var tree = new PoolTree(text);
        try
        {
            return tree.Document();
        }
        catch (PoolSyntaxException)
        {
            throw;
        }
        catch (YamlException e)
        {
            throw tree.NotWellFormed((int)e.Start.Line, (int)e.Start.Column, e.Message);
        }
        catch (Exception e) when (e is not (OutOfMemoryException or StackOverflowException))
        {
            // The parser meets texts that nobody wrote on purpose; whatever it throws, the file is at fault.
            throw tree.NotWellFormed(0, 0, e.Message);
        }
    }

    private PoolSyntaxException NotWellFormed(int line, int column, string message)
    {
        if (line < 1)
        {
            line = Math.Max(1, (int)(_parser.Current?.Start.Line ?? 1));
            column = Math.Max(1, (int)(_parser.Current?.Start.Column ?? 1));
        }

        message = message.Trim().TrimEnd('.');
        return new PoolSyntaxException(line, Math.Max(1, column), "broken YAML",
            $"This is not well-formed YAML ({message}); look at the indentation, the colons and the quotes here and in the line before, and put texts with special signs in quotes.");
    }

    private ParsingEvent Next()
    {
        if (!_parser.MoveNext())
            throw NotWellFormed(0, 0, "it ends too early");
        return _parser.Current!;
    }

    private PoolNode Document()
    {
        var e = Next();
        if (e is StreamStart)
            e = Next();
        if (e is StreamEnd)
            throw new PoolSyntaxException(1, 1, "nothing", "The file is empty; a pool file needs at least the keys pool, hypervisor, hosts and services.");
        if (e is not DocumentStart)
            throw NotWellFormed((int)e.Start.Line, (int)e.Start.Column, "no document begins here");
        var root = Node(Next(), 1);
        Next();
        e = Next();
        if (e is DocumentStart)
            throw new PoolSyntaxException((int)e.Start.Line, (int)e.Start.Column, "a second document", "A pool file holds one YAML document; remove this one, or keep it in a file of its own.");
        return root;
    }

    private PoolNode Node(ParsingEvent e, int depth)
    {
        var line = (int)e.Start.Line;
        var column = (int)e.Start.Column;
        if (depth > MostDepth)
            throw new PoolSyntaxException(line, column, $"more than {MostDepth} levels", $"The file is nested more than {MostDepth} levels deep here; no setting of a pool file is.");
        if (e is AnchorAlias)
            throw new PoolSyntaxException(line, column, "an alias", "YAML aliases (*name) are not allowed in a pool file; write the value out, or put quotes around a text that begins with *.");
        if (e is not NodeEvent node)
            throw NotWellFormed(line, column, "a value was expected here");
        if (!node.Anchor.IsEmpty)
            throw new PoolSyntaxException(line, column, "an anchor", "YAML anchors (&name) are not allowed in a pool file; write each value out, or put quotes around a text that begins with &.");
        if (!node.Tag.IsEmpty)
            throw new PoolSyntaxException(line, column, "a tag", "YAML tags (!name) are not allowed in a pool file; write the plain value, or put quotes around a text that begins with !.");

        switch (e)
        {
            case Scalar scalar:
                return new PoolNode(NodeKind.Scalar, line, column) { Text = scalar.Value, IsPlain = scalar.Style == ScalarStyle.Plain };

            case SequenceStart:
                var list = new PoolNode(NodeKind.List, line, column);
                for (e = Next(); e is not SequenceEnd; e = Next())
                    list.Items.Add(Node(e, depth + 1));
                return list;

            case MappingStart:
                var map = new PoolNode(NodeKind.Map, line, column);
                for (e = Next(); e is not MappingEnd; e = Next())
                {
                    var key = Node(e, depth + 1);
                    map.Entries.Add((key, Node(Next(), depth + 1)));
                }

                return map;

            default:
                throw NotWellFormed(line, column, "a value was expected here");
        }
    }
}
