using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;

namespace VMatrix.Pools;

/// <summary>A setting of a section.</summary>
/// <param name="Name">The key in the file.</param>
/// <param name="Property">The property that it sets; null for a section whose keys set properties of the same object.</param>
/// <param name="Kind">What may stand there.</param>
/// <param name="Doc">What it means, in one or two sentences.</param>
internal sealed record PoolKey(string Name, string? Property, PoolKind Kind, string Doc)
{
    /// <summary>True when there is no default.</summary>
    public bool Required { get; init; }

    /// <summary>What holds when the key is missing, where the property's own default does not say it.</summary>
    public string? Otherwise { get; init; }

    /// <summary>Words that people may write instead.</summary>
    public string[] Also { get; init; } = [];

    /// <summary>A value for the schema and the docs.</summary>
    public string? Example { get; init; }
}

/// <summary>A section: keys with values, which become the properties of one object.</summary>
internal sealed class PoolSection(string name, Type type, string doc, PoolKey[] keys) : PoolKind
{
    private readonly Dictionary<string, (PoolKey Key, PropertyInfo? Property)> _keys = keys.ToDictionary(
        k => k.Name,
        k => (k, k.Property is null ? null : type.GetProperty(k.Property) ?? throw new InvalidOperationException($"{type.Name} has no property {k.Property}.")));

    /// <summary>The section's name in docs and schema.</summary>
    public string Name { get; } = name;

    public string Doc { get; } = doc;

    public IReadOnlyList<PoolKey> Keys { get; } = keys;

    public override Type ValueType { get; } = type;

    public override string Allowed => $"a section with the keys {string.Join(", ", Keys.Select(k => k.Name))}";

    /// <summary>An object with the defaults of every key that has one.</summary>
    public object Defaults() => Activator.CreateInstance(ValueType)!;

    public PropertyInfo? PropertyOf(string key) => _keys[key].Property;

    public override object? Read(PoolNode node, string key, PoolReading reading)
    {
        var target = Defaults();
        if (!Fill(target, node, key, reading))
            return null;
        reading.Remember(node, target);
        return target;
    }

    private bool Fill(object target, PoolNode node, string path, PoolReading reading)
    {
        if (node.Kind != NodeKind.Map && !(node.IsNothing && !Keys.Any(k => k.Required)))
        {
            reading.Add(node, path, $"{(path.Length == 0 ? "A pool file" : path)} must be {Allowed}, not {PoolReading.Show(node)}.");
            return false;
        }

        var seen = new Dictionary<string, int>();
        foreach (var (keyNode, value) in node.Entries)
        {
            if (reading.IsFull)
                break;
            var name = keyNode.Text;
            var full = path.Length == 0 ? name : $"{path}.{name}";
            if (keyNode.Kind != NodeKind.Scalar || name.Length == 0)
            {
                reading.Add(keyNode, path, $"A key must be a word, not {PoolReading.Show(keyNode)}; known here: {string.Join(", ", Keys.Select(k => k.Name))}.");
            }
            else if (seen.TryGetValue(name, out var line))
            {
                reading.Add(keyNode, full, $"The key {PoolReading.Show(name)} stands here twice, first in line {line}; remove one of the two.");
            }
            else if (!_keys.TryGetValue(name, out var known))
            {
                seen.Add(name, keyNode.Line);
                Unknown(keyNode, name.Length <= 60 ? full : path, reading);
            }
            else
            {
                seen.Add(name, keyNode.Line);
                if (known.Property is null)
                {
                    if (!((PoolSection)known.Key.Kind).Fill(target, value, full, reading))
                        reading.MarkUnsound(node, name);
                }
                else if (value.IsNothing && known.Key.Kind is not PoolSection)
                {
                    reading.Add(value.Text.Length > 0 ? value : keyNode, full, $"{full} has no value; give it {known.Key.Kind.Allowed}{(known.Key.Required ? "" : ", or remove the key")}.");
                    reading.MarkUnsound(node, name);
                }
                else if (known.Key.Kind.Read(value, full, reading) is { } read)
                {
                    known.Property.SetValue(target, read);
                }
                else
                {
                    reading.MarkUnsound(node, name);
                }
            }
        }

        foreach (var missing in Keys.Where(k => k.Required && !seen.ContainsKey(k.Name)))
        {
            reading.MarkUnsound(node, missing.Name);
            reading.Add(node.Line, node.Column, path.Length == 0 ? missing.Name : $"{path}.{missing.Name}", "nothing",
                $"The key {missing.Name} is missing{(path.Length == 0 ? "" : $" in {path}")}; give it {missing.Kind.Allowed}.");
        }

        return true;
    }

    private void Unknown(PoolNode keyNode, string full, PoolReading reading)
    {
        if (PoolReading.IsSecretName(keyNode.Text))
        {
            reading.Add(keyNode, full, $"The key {PoolReading.Show(keyNode.Text)} looks like a secret, and secrets do not belong in a pool file; remove it and its value, also from the file's history, and keep it in the system's own store.");
            return;
        }

        var near = Keys.FirstOrDefault(k => k.Also.Contains(keyNode.Text, StringComparer.OrdinalIgnoreCase) || string.Equals(k.Property, keyNode.Text, StringComparison.OrdinalIgnoreCase))?.Name
            ?? Nearest.Of(keyNode.Text, Keys.Select(k => k.Name));
        reading.Add(keyNode, full,
            $"There is no key {PoolReading.Show(keyNode.Text)} {(Name == "pool" ? "in a pool file" : $"in a {Name} section")}{(near is null ? "" : $"; did you mean {near}?")}{(near is null ? "; known here" : " Known here")}: {string.Join(", ", Keys.Select(k => k.Name))}.");
    }
}
