# Machines that are not servers, and what stands in the way of moves.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
    function Get-Complaint([scriptblock] $Script) {
        $ErrorActionPreference = 'Continue'
        & $Script 2>&1 | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] }
    }
    function ConvertTo-Dead($Value) { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($Value)) }
}

Describe 'Registering' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = New-VMatrixServer FINANCE -Count 3
        Move-VMatrixServer FINANCE-1, FINANCE-2 -Stage Matrix
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'lets a server go as it is, and shows it as a foreign machine' {
        $before = Get-VMatrixServer FINANCE-1
        Unregister-VMatrixServer FINANCE-1 -Force | Should -BeNullOrEmpty
        (Get-VMatrixServer).Name | Should -Not -Contain 'FINANCE-1'
        $machine = Get-VMatrixServer -Foreign
        $machine | Should -BeOfType VMatrix.ForeignMachine
        $machine.Name, $machine.Host, "$($machine.Power)", $machine.Address | Should -Be 'FINANCE-1', $before.Host, 'Running', $before.Address
        (Get-VMatrixMove FINANCE-1 -Newest 1).Move.Kind | Select-Object -First 1 | Should -Be 'Unregister'
        (Get-VMatrixServer -Foreign -Name FIN* -HostName $before.Host).MachineId | Should -Be $machine.MachineId
        Get-VMatrixServer -Foreign -HostName chamber1 | Should -BeNullOrEmpty
        (Get-Complaint { Get-VMatrixServer -Foreign -Name NONE }).FullyQualifiedErrorId | Should -BeLike 'MachineNotFound,*'
    }

    It 'asks before it lets go' {
        { Unregister-VMatrixServer FINANCE-2 -ErrorAction Stop } | Should -Throw -ExpectedMessage '*NonInteractive*'
        Unregister-VMatrixServer FINANCE-2 -Force -WhatIf
        (Get-VMatrixServer FINANCE-2).Stage | Should -Be 'Matrix'
    }

    It 'takes a machine named by <_>, into the Matrix when it runs there and works' -ForEach 'a live object', 'a deserialized object', 'its id', 'its name', 'a name and a host', 'an object of another listing' {
        $machine = Get-VMatrixServer -Foreign
        $server = switch ($_) {
            'a live object' { $machine | Register-VMatrixServer -Service SPORTS }
            'a deserialized object' { ConvertTo-Dead $machine | Register-VMatrixServer -Service SPORTS }
            'its id' { Register-VMatrixServer $machine.MachineId SPORTS }
            'its name' { Register-VMatrixServer $machine.Name SPORTS }
            'a name and a host' { Register-VMatrixServer $machine.Name SPORTS -HostName $machine.Host }
            'an object of another listing' { [pscustomobject]@{ VMId = $machine.MachineId; Name = 'other'; ComputerName = 'HV1.EXAMPLE.COM' } | Register-VMatrixServer -Service SPORTS }
        }
        $server.Service, "$($server.Stage)", "$($server.Health)", $server.Host, $server.Name | Should -Be 'SPORTS', 'Matrix', 'Healthy', $machine.Host, $machine.Name
        Get-VMatrixServer -Foreign | Should -BeNullOrEmpty
        (Unregister-VMatrixServer $server.Id -Force -PassThru).Name | Should -Be $server.Name
    }

    It 'gives a name and refuses what is not clear' {
        (Get-Complaint { Register-VMatrixServer FINANCE-1 }).FullyQualifiedErrorId | Should -BeLike 'ServiceNotNamed,*'
        (Get-Complaint { Register-VMatrixServer NONE SPORTS }).FullyQualifiedErrorId | Should -BeLike 'MachineNotFound,*'
        (Get-Complaint { Register-VMatrixServer FINANCE-2 SPORTS }).FullyQualifiedErrorId | Should -BeLike 'MachineMarked,*'
        (Get-Complaint { Register-VMatrixServer FINANCE-1 NONE }).FullyQualifiedErrorId | Should -BeLike 'ServiceNotFound,*'
        Register-VMatrixServer FINANCE-1 SPORTS -WhatIf
        Get-VMatrixServer -Foreign | Should -Not -BeNullOrEmpty
        (Register-VMatrixServer FINANCE-1 SPORTS -Name ADOPTED).Name | Should -Be 'ADOPTED'
    }

    It 'takes a machine over from a pool whose state was lost only when told to' {
        $lost = Get-VMatrixServer ADOPTED
        # A pool of the same hosts and nest whose state began anew.
        $other = Join-Path (Split-Path $env:VMATRIX_POOL) 'again.yaml'
        (Get-Content -Raw $env:VMATRIX_POOL) -replace 'pool: test', "pool: test`nstate: again" | Set-Content $other
        $env:VMATRIX_POOL = $other
        New-VMatrixServer FINANCE -Name NEW | Should -Not -BeNullOrEmpty
        $machine = Get-VMatrixServer -Foreign -Name ADOPTED
        $machine.Controller | Should -Not -BeNullOrEmpty
        (Get-Complaint { $machine | Register-VMatrixServer }).FullyQualifiedErrorId | Should -BeLike 'ForeignController,*'
        $again = $machine | Register-VMatrixServer -Force
        $again.Id, $again.Service | Should -Be $lost.Id, 'SPORTS'
        $again.Generation | Should -BeGreaterThan $lost.Generation
        # What sleeps in the nest is taken over as well.
        (Get-VMatrixServer -Foreign -Name FINANCE-3 | Register-VMatrixServer -Force).Stage | Should -Be 'Nest'
    }
}

Describe 'Compare-VMatrixServer' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = New-VMatrixServer FINANCE -Count 2
        Move-VMatrixServer FINANCE-1 -Destination host1
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'finds nothing where nothing stands in the way, and looks at every host unless told one' {
        Compare-VMatrixServer FINANCE-1 -Destination host2 | Where-Object Severity -EQ Blocks | Should -BeNullOrEmpty
        $null = Suspend-VMatrixHost host2, host3
        $found = Compare-VMatrixServer FINANCE-1 | Where-Object Severity -EQ Blocks
        $found | ForEach-Object { $_ | Should -BeOfType VMatrix.MoveObstacle }
        $found.Destination | Should -Be 'host2', 'host3'
        $found.What | Select-Object -Unique | Should -Be 'HostSuspended'
        "$($found[0].Group)", $found[0].Mend, $found[0].Server | Should -Be 'People', 'Resume-VMatrixHost host2', 'FINANCE-1'
        (Get-VMatrixServer FINANCE-1 | Compare-VMatrixServer -Destination host2 | Where-Object Severity -EQ Blocks).What | Should -Be 'HostSuspended'
        & ([scriptblock]::Create($found[0].Mend))
        Compare-VMatrixServer FINANCE-1 host2 | Where-Object Severity -EQ Blocks | Should -BeNullOrEmpty -Because 'the mend is a command that mends'
        $null = Resume-VMatrixHost host3
    }

    It 'is what Move-VMatrixServer refuses by, unless forced' {
        $file = $env:VMATRIX_POOL
        $now = Get-Date
        (Get-Content -Raw $file) -replace 'name: FINANCE, ', "name: FINANCE, freeze: [{ from: `"$($now.AddHours(-1).ToString('HH:mm'))`", to: `"$($now.AddHours(1).ToString('HH:mm'))`" }], " | Set-Content $file
        $complaint = Get-Complaint { Move-VMatrixServer FINANCE-1 -Destination host2 }
        $complaint.FullyQualifiedErrorId | Should -BeLike 'MoveObstructed,*'
        $complaint.Exception.Message | Should -BeLike '*People, FrozenWindow*FINANCE*-Force*'
        (Get-VMatrixServer FINANCE-1).Host | Should -Be 'host1'
        (Move-VMatrixServer FINANCE-1 -Destination host2 -Force -PassThru).Host | Should -Be 'host2'
    }

    It 'says which server or host is not there' {
        (Get-Complaint { Compare-VMatrixServer NONE }).FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
        (Get-Complaint { Compare-VMatrixServer FINANCE-1 -Destination nohost }).FullyQualifiedErrorId | Should -BeLike 'HostNotFound,*'
        (Get-Complaint { Compare-VMatrixServer FINANCE-1 -Destination host1 -Stage Nest }).FullyQualifiedErrorId | Should -BeLike 'DestinationNotAllowed,*'
    }
}
