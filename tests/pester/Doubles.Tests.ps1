BeforeDiscovery {
    $script:Surfaces = Get-ChildItem "$PSScriptRoot/../VMatrix.Doubles/surface/*.json" | ForEach-Object { Get-Content $_ -Raw | ConvertFrom-Json -AsHashtable }
    $script:Modules = $script:Surfaces | ForEach-Object { @{ Module = $_.module; Surface = $_ } }
}

Describe 'The doubled modules' {
    BeforeAll { . "$PSScriptRoot/Doubles.ps1" }

    It '<Module> has exactly the commands, sets, positions, aliases, types and pipeline binding of its surface' -ForEach $Modules {
        $common = [System.Management.Automation.PSCmdlet]::CommonParameters + 'WhatIf', 'Confirm'
        $wrong = [System.Collections.Generic.List[string]]::new()
        $imported = Import-Module "$DoubleModules/$Module" -PassThru -Force
        $found = $imported.ExportedCmdlets
        $difference = Compare-Object @($found.Keys) @($Surface.commands.name)
        $difference | Should -BeNullOrEmpty
        foreach ($command in $Surface.commands) {
            $cmdlet = $found[$command.name]
            if ("$($cmdlet.DefaultParameterSet)" -ne "$($command.default)") { $wrong.Add("$($command.name): default $($cmdlet.DefaultParameterSet), not $($command.default)") }
            $sets = @($cmdlet.ParameterSets)
            if (Compare-Object @($sets.Name) @($command.sets.name)) { $wrong.Add("$($command.name): sets $($sets.Name -join ', ')"); continue }
            if ([bool]$command.shouldProcess -ne $cmdlet.Parameters.ContainsKey('WhatIf')) { $wrong.Add("$($command.name): WhatIf") }
            foreach ($set in $command.sets) {
                $actual = @{}
                foreach ($parameter in ($sets | Where-Object Name -EQ $set.name).Parameters) { if ($parameter.Name -notin $common) { $actual[$parameter.Name] = $parameter } }
                $wanted = @($set.parameters.Keys | Where-Object { $_ -notin 'WhatIf', 'Confirm' })
                if (Compare-Object @($actual.Keys) $wanted) { $wrong.Add("$($command.name)/$($set.name): parameters $($actual.Keys -join ', ')"); continue }
                foreach ($name in $wanted) {
                    $use, $is, $about = $set.parameters[$name], $actual[$name], $command.parameters[$name]
                    $position = if ($use.ContainsKey('position')) { $use.position } else { [int]::MinValue }
                    $told = "$($is.IsMandatory) $($is.Position) $($is.ValueFromPipeline) $($is.ValueFromPipelineByPropertyName)"
                    $asked = "$([bool]$use.mandatory) $position $([bool]$use.byValue) $([bool]$use.byName)"
                    if ($told -ne $asked) { $wrong.Add("$($command.name)/$($set.name) -${name}: $told, not $asked") }
                    if (Compare-Object @($is.Aliases) @($about.aliases | Where-Object { $_ })) { $wrong.Add("$($command.name) -${name}: aliases $($is.Aliases -join ', ')") }
                    $type = $is.ParameterType
                    $shown = if ($type.IsGenericType) { "System.Collections.Generic.List``1[$($type.GenericTypeArguments[0].FullName)]" } else { $type.Name }
                    if ($shown -ne $about.type) { $wrong.Add("$($command.name) -${name}: $shown, not $($about.type)") }
                }
            }
        }
        $wrong -join "`n" | Should -BeNullOrEmpty
    }

    Context 'at work' {
        BeforeAll {
            $world = Use-DoubleWorld (Join-Path $TestDrive 'world')
            Import-Module Hyper-V, FailoverClusters
        }

        It 'carries a machine through its life by pipelines, as an admin does' {
            $vm = New-VM -ComputerName host1 -Name web -MemoryStartupBytes 1GB -Generation 2 -NewVHDPath 'C:\web.vhdx' -NewVHDSizeBytes 4GB -SwitchName LAN
            $vm.State | Should -Be Off
            Get-VM -ComputerName host1 | Start-VM
            (Get-VM web -ComputerName host1).State | Should -Be Running
            Wait-VM -VM (Get-VM web -ComputerName host1) -For IPAddress -Timeout 20
            (Get-VM web -ComputerName host1 | Get-VMNetworkAdapter).IPAddresses[0] | Should -Match '^10\.'
            Get-VM web -ComputerName host1 | Move-VM -DestinationHost host2 -IncludeStorage -DestinationStoragePath 'D:\web'
            (gvm -ComputerName host1) | Should -BeNullOrEmpty
            (Get-VM -Id $vm.Id -ComputerName host2).HardDrives.Path | Should -Be 'D:\web\Virtual Hard Disks\web.vhdx'
            Save-VM web -ComputerName host2 -Passthru | ForEach-Object State | Should -Be Saved
            Remove-VM web -ComputerName host2 -Force -Confirm:$false
            Get-VM -ComputerName host1, host2 | Should -BeNullOrEmpty
        }

        It 'raises errors by the ids of the real cmdlets' {
            Get-VM nobody -ComputerName host1 -ErrorAction SilentlyContinue -ErrorVariable told
            $told[0].FullyQualifiedErrorId | Should -Be 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM'
            $told[0].Exception.GetType().FullName | Should -Be 'Microsoft.HyperV.PowerShell.VirtualizationException'
            $null = New-VM -ComputerName host1 -Name x
            Get-VM x -ComputerName host1 | Save-VM -ErrorAction SilentlyContinue -ErrorVariable told
            $told[0].FullyQualifiedErrorId | Should -Be 'InvalidState,Microsoft.HyperV.PowerShell.Commands.SaveVM'
            { Start-VM -VM x } | Should -Throw
            { Get-VMGroup } | Should -Throw '*does not carry it out*'
        }

        It 'does nothing when asked what if' {
            Remove-VM x -ComputerName host1 -Force -WhatIf
            Get-VM x -ComputerName host1 | Should -Not -BeNullOrEmpty
        }

        It 'has guests that answer requests while they run, at addresses of their own' {
            $guests = Start-DoubleGuest $world
            try {
                $null = Start-VM x -ComputerName host1
                Wait-VM -VM (Get-VM x -ComputerName host1) -Timeout 20
                Connect-VMNetworkAdapter -VMName x -ComputerName host1 -SwitchName LAN
                $address = (Get-VM x -ComputerName host1).NetworkAdapters[0].IPAddresses[0]
                $address | Should -Match '^127\.'
                $request = { try { (Invoke-WebRequest "http://${address}:18080/" -TimeoutSec 2).StatusCode -eq 200 } catch { $false } }
                Wait-Until $request
                Stop-VM x -ComputerName host1 -TurnOff
                Wait-Until { -not (& $request) }
            }
            finally { $guests.Dispose() }
        }

        It 'cannot choose between two sets where PowerShell cannot' {
            { Get-VM x -ComputerName host1 | Move-VM -DestinationHost host2 -ErrorAction Stop } | Should -Throw -ErrorId 'AmbiguousParameterSet,*'
        }

        It 'works on the world that other processes work on' {
            $other = pwsh -NoProfile -NonInteractive -Command "`$env:PSModulePath = '$DoubleModules'; (Get-VM x -ComputerName host1).Name; Set-VM x -ComputerName host1 -Notes 'from another process'"
            $other | Should -Be x
            (Get-VM x -ComputerName host1).Notes | Should -Be 'from another process'
        }
    }
}
